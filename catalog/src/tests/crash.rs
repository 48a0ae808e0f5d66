use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use drctl_model::{JobKind, JobState};

use crate::testing::{STORED, at, backup, commit, place, repository};
use crate::{CRASH_POINTS, Catalog, Rebuild};

const PATH: &str = "DRCTL_TEST_CATALOG";
const POINT: &str = "DRCTL_TEST_CRASH_POINT";

fn die_here(point: &'static str) {
    if std::env::var(POINT).is_ok_and(|wanted| wanted == point) {
        std::process::abort();
    }
}

/// What the process does that is killed: a job, then a rebuild that drops the first backup.
///
/// Run by the test below in a process of its own; does nothing otherwise.
#[tokio::test]
async fn the_victim() {
    let Ok(path) = std::env::var(PATH) else { return };
    let path = Path::new(&path);
    let catalog = Catalog::open(path).await.unwrap().with_hook(die_here);
    let b = backup("shop", 2);
    let job = catalog.begin_job(at(2), JobKind::Backup, &b.source, Some(&b.backup)).await.unwrap();
    catalog.append(job, at(2), &STORED).await.unwrap();
    catalog.commit_backup(job, at(3), &b).await.unwrap();
    drop(catalog);
    let rebuild = Rebuild::start(path, &repository()).await.unwrap().with_hook(die_here);
    rebuild.add(std::slice::from_ref(&b)).await.unwrap();
    rebuild.finish().await.unwrap();
}

#[tokio::test]
async fn a_crash_at_any_point_leaves_the_old_or_the_new() {
    for point in CRASH_POINTS {
        let (directory, path) = place();
        let catalog = Catalog::open(&path).await.unwrap();
        catalog.claim(&repository()).await.unwrap();
        let (a, b) = (backup("shop", 1), backup("shop", 2));
        commit(&catalog, &a).await;
        drop(catalog);
        let victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::crash::the_victim"])
            .env(PATH, &path)
            .env(POINT, point)
            .output()
            .unwrap();
        assert_eq!(victim.status.signal(), Some(6), "{point} was not reached");

        let catalog = Catalog::open(&path).await.unwrap();
        catalog.integrity().await.unwrap();
        let job = catalog.last_job(JobKind::Backup, &b.source).await.unwrap().unwrap();
        let (state, backups) = match *point {
            "catalog-job-begun" => (JobState::Running, vec![a]),
            "catalog-before-commit" => (JobState::Committing, vec![a]),
            "catalog-after-commit" | "rebuild-before-rename" => (JobState::Committed, vec![b, a]),
            _ => (JobState::Committed, vec![b]),
        };
        assert_eq!((job.backup, job.state), (Some(backup("shop", 2).backup), state), "{point}");
        assert_eq!(catalog.backups(None).await.unwrap(), backups, "{point}");
        assert_eq!(catalog.repository().await.unwrap(), Some(repository()));
        drop(catalog);
        let left = std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(left, 2, "{point}: more than the catalog and its lock");
    }
}
