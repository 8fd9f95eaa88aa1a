//! One SQLite file belongs to one process.

use campanile_tests::prelude::*;

#[tokio::test]
async fn the_second_process_refuses_and_the_first_goes_on() {
    let mut host = TestHost::builder().embedded().start().await;
    let mut second = host.twin();
    second.spawn();
    let status = second.wait_exit(Duration::from_mins(1)).await;
    let said = second.output();
    assert!(!status.success(), "{said}");
    let text = said.to_lowercase();
    assert!(
        text.contains("another") || text.contains("in use") || text.contains("already"),
        "the refusal is not clear: {said}"
    );
    assert!(said.contains("campanile.db"), "the refusal names no file: {said}");
    host.api().notify("ada", "still here").await;
    // A dead owner is no owner.
    host.kill9().await;
    second.launch().await;
    assert_eq!(second.me("ada").feed().await.len(), 1);
}

#[tokio::test]
async fn twenty_writers_never_hear_that_the_database_is_locked() {
    let host = TestHost::start().await;
    let writers: Vec<_> = (0..20)
        .map(|writer| {
            let api = host.api();
            tokio::spawn(async move {
                for n in 0..25 {
                    api.notify(&format!("u{}", (writer + n) % 7), "T").await;
                }
            })
        })
        .collect();
    // A reader on the file beside them, as a backup would be.
    let db = host.db().await;
    for _ in 0..20 {
        db.count("SELECT count(*) FROM deliveries").await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(db.count("SELECT count(*) FROM feed").await, 500);
    assert!(!host.output().contains("locked"), "{}", host.output());
}
