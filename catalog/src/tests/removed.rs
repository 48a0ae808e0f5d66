use drctl_model::{BackupId, BackupSummary, Closeness, Fault, Named, Verification};

use crate::testing::{at, backup, commit, place, source};
use crate::{Catalog, Look, NamedBy, Subject};

#[tokio::test]
async fn what_was_removed_on_purpose_is_known_no_more_and_missed_by_nobody() {
    let (_directory, path) = place();
    let catalog = Catalog::open(&path).await.unwrap();
    let (gone, stays) = (backup("shop", 1), backup("shop", 2));
    let blog = BackupSummary { source: source("blog"), ..gone.clone() };
    for backup in [&gone, &stays, &blog] {
        let _ = commit(&catalog, backup).await;
    }
    let shop = source("shop");
    let named = |of: &BackupSummary| Named {
        backup: of.backup.clone(),
        manifest_sha256: of.manifest_sha256,
    };
    let by = |of: &BackupSummary| (named(of), "the backup x".to_owned());
    catalog.note_named(&shop, vec![by(&gone), by(&stays)]).await.unwrap();
    let key = |of: &BackupSummary| format!("s/shop/b/{}/manifest.json", of.backup);
    let lost = [&gone, &stays].map(|of| (key(of), "it is gone".to_owned()));
    catalog.remember_lost(&shop, at(3), lost.into(), Vec::new()).await.unwrap();
    let both = [&gone, &stays].map(|of| of.backup.clone());
    catalog.set_expired(&shop, at(3), both.into()).await.unwrap();
    let problems = vec![Fault { code: "a".to_owned(), message: "b".to_owned(), trust: None }];
    let look = |of: &BackupSummary| Look {
        source: shop.clone(),
        subject: Subject::Backup(of.backup.clone()),
        manifest_sha256: Some(of.manifest_sha256),
        found: Verification { at: at(3), closeness: Closeness::Stored, problems: problems.clone() },
    };
    catalog.remember(vec![look(&gone), look(&stays)]).await.unwrap();

    catalog.take_out(&shop, [gone.backup.clone()].into()).await.unwrap();
    assert_eq!(catalog.backups(None).await.unwrap(), [stays.clone(), blog]);
    let lost = catalog.lost(None).await.unwrap();
    assert_eq!(lost.iter().map(|one| one.key.clone()).collect::<Vec<_>>(), [key(&stays)]);
    let expired = catalog.expired(None).await.unwrap();
    assert_eq!(expired.into_keys().collect::<Vec<_>>(), [(shop.clone(), stays.backup.clone())]);
    let looks = catalog.looks(None).await.unwrap();
    assert!(looks.into_keys().eq([(shop.clone(), Subject::Backup(stays.backup.clone()))]));
    let forgotten = |all: Vec<NamedBy>| -> Vec<(BackupId, bool)> {
        all.into_iter().map(|one| (one.named.backup, one.forgotten)).collect()
    };
    let named = forgotten(catalog.named(&shop).await.unwrap());
    assert_eq!(named, [(gone.backup.clone(), true), (stays.backup, false)]);
    // Its job stays on record, and whoever names it later says nothing new.
    assert!(catalog.job_of(&shop, &gone.backup).await.unwrap().is_some());
    catalog.note_named(&shop, vec![by(&gone)]).await.unwrap();
    assert!(forgotten(catalog.named(&shop).await.unwrap())[0].1);
}
