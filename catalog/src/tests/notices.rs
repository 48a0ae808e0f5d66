use crate::testing::{at, place, repository};
use crate::{AlertTest, Catalog, Rebuild, ToldNotice};

fn told(subject: &str, stands: bool, hour: u32) -> ToldNotice {
    ToldNotice {
        source: "shop".to_owned(),
        code: "log_gap".to_owned(),
        subject: subject.to_owned(),
        severity: "attention".to_owned(),
        text: "a gap".to_owned(),
        since: Some(at(0)),
        stands,
        told: at(hour),
        changes: 1,
        counted: at(hour),
        extent: "2 ab".to_owned(),
    }
}

#[tokio::test]
async fn what_was_told_outlives_a_rebuild_and_what_is_over_is_forgotten_in_time() {
    let (_directory, path) = place();
    let catalog = Catalog::open(&path).await.unwrap();
    catalog.claim(&repository()).await.unwrap();
    let all = vec![told("one", true, 1), told("two", false, 1)];
    catalog.note_told("dba", at(1), all.clone()).await.unwrap();
    catalog.note_alert_test("dba", "ABCDEF", at(1)).await.unwrap();
    assert_eq!(catalog.told_notices("pager").await.unwrap(), []);
    drop(catalog);
    Rebuild::start(&path, &repository()).await.unwrap().finish().await.unwrap();
    let catalog = Catalog::open(&path).await.unwrap();
    assert_eq!(catalog.told_notices("dba").await.unwrap(), all);
    assert_eq!(catalog.alert_tests().await.unwrap().len(), 1);
    let again = ToldNotice { changes: 2, ..told("one", false, 24 * 91) };
    catalog.note_told("dba", at(24 * 91), vec![again.clone()]).await.unwrap();
    assert_eq!(catalog.told_notices("dba").await.unwrap(), [again]);
}

#[tokio::test]
async fn a_test_message_is_acknowledged_by_its_code_alone() {
    let (_directory, path) = place();
    let catalog = Catalog::open(&path).await.unwrap();
    catalog.note_alert_test("dba", "ABCDEF", at(1)).await.unwrap();
    assert_eq!(catalog.acknowledge("ABCDEG", at(2)).await.unwrap(), None);
    let test = |acked| AlertTest {
        channel: "dba".to_owned(),
        code: "ABCDEF".to_owned(),
        sent: at(1),
        acked,
    };
    assert_eq!(catalog.alert_tests().await.unwrap(), [test(None)]);
    assert_eq!(catalog.acknowledge("ABCDEF", at(3)).await.unwrap(), Some("dba".to_owned()));
    assert_eq!(catalog.acknowledge("ABCDEF", at(4)).await.unwrap(), Some("dba".to_owned()));
    assert_eq!(catalog.alert_tests().await.unwrap(), [test(Some(at(3)))], "the first time counts");
}
