use drctl_model::{TableMark, TableMarks};

use crate::testing::{backup, place, repository, source};
use crate::{Catalog, Rebuild};

#[tokio::test]
async fn what_was_in_the_tables_is_remembered_of_the_last_backups_and_of_the_one_compared_with() {
    let (_directory, path) = place();
    let catalog = Catalog::open(&path).await.unwrap();
    catalog.claim(&repository()).await.unwrap();
    let (shop, bank) = (source("shop"), source("bank"));
    let of = |hour: u32| backup("shop", hour).backup;
    let marks = |key: u8| {
        let large = TableMark { there: true, large: true, ..TableMark::default() };
        TableMarks([([key; 16], large)].into())
    };
    catalog.note_tables(&bank, &of(1), None, &marks(99)).await.unwrap();
    catalog.note_tables(&shop, &of(1), None, &marks(1)).await.unwrap();
    for hour in 2..=20 {
        let key = u8::try_from(hour).unwrap();
        catalog.note_tables(&shop, &of(hour), Some(&of(1)), &marks(key)).await.unwrap();
    }
    drop(catalog);
    // It is nowhere else: what makes the catalog anew takes it along.
    Rebuild::start(&path, &repository()).await.unwrap().finish().await.unwrap();
    let catalog = Catalog::open(&path).await.unwrap();
    let of_backup = async |source, hour: u32| {
        let found = catalog.table_marks(source, vec![of(hour)]).await.unwrap();
        found.into_iter().next().map(|(backup, _, marks)| {
            assert_eq!(backup, of(hour));
            marks
        })
    };
    let mut known = Vec::new();
    for hour in 1..=22 {
        if let Some(found) = of_backup(&shop, hour).await {
            assert_eq!(found, marks(u8::try_from(hour).unwrap()));
            known.push(hour);
        }
    }
    assert_eq!(known, [1, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]);
    assert_eq!(of_backup(&bank, 1).await, Some(marks(99)));
    // Compared with another one, the first is needed no longer.
    catalog.note_tables(&shop, &of(21), Some(&of(20)), &marks(21)).await.unwrap();
    assert_eq!(of_backup(&shop, 1).await, None);
    assert_eq!(of_backup(&shop, 8).await, Some(marks(8)));
    // Of the first that is known all is told, of the others what excuses a table.
    let gone = ([7; 16], TableMark { gone: true, ..TableMark::default() });
    let mut with_gone = marks(22);
    with_gone.0.insert(gone.0, gone.1);
    catalog.note_tables(&shop, &of(22), Some(&of(20)), &with_gone).await.unwrap();
    let asked = vec![of(23), of(21), of(20), of(22)];
    let found = catalog.table_marks(&shop, asked).await.unwrap();
    let alone = TableMarks([gone].into());
    assert_eq!(
        found,
        [(of(21), 1, marks(21)), (of(20), 2, TableMarks::default()), (of(22), 0, alone)]
    );
    // What a newer program wrote is not known here.
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute("UPDATE table_marks SET marks = x'ffff' WHERE source = 'bank'", []).unwrap();
    assert_eq!(of_backup(&bank, 1).await, None);
}
