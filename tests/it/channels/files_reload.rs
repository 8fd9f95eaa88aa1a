//! A new version that can't take over: the old one goes on, and the reason is where an operator looks.

use super::files_kit::{BOTH, House, outcomes, said, villain};
use campanile_tests::prelude::*;

#[tokio::test]
async fn a_bad_new_version_leaves_the_old_one_delivering_and_says_why() {
    for isolation in BOTH {
        let mut house = House::new(|b| b);
        house.add(&villain(&[]), &["--isolation", isolation]).await;
        house.host.launch().await;
        house.create(&json!({"name": "one", "plugin": "villain"})).await;
        let still_old = async |why: &str| {
            let id = house.send("villain", "ok").await;
            let delivery = house.host.api().state(&id, "villain", "sent").await;
            assert_eq!(outcomes(&delivery), ["ok"], "{why}: {delivery}");
            assert_eq!(delivery["provider_id"], "1.0.0", "{why}: {delivery}");
        };
        still_old("before").await;
        // One that is listed and must not load: `plugin add` refuses to list such a file, so the list is older than its fault.
        for (lie, why) in [
            ("-DNULL_TABLE", "campanile_plugin_v1() returned NULL"),
            ("-DABORTS", "died of signal 6"),
            ("-DMISSING", "undefined"),
        ] {
            let bad = villain(&["-DVERSION=\"2.0.0\"", lie]);
            let refused = house.plugin(&["add", &bad.display().to_string(), "--yes", "--isolation", isolation]).await;
            assert!(!refused.status.success() && said(&refused).contains(why), "{}", said(&refused));
            still_old(lie).await;
        }
        for (lie, why) in [("-DREFUSES", "built to refuse"), ("-DFAILING=1", "told to fail")] {
            house.add(&villain(&["-DVERSION=\"2.0.0\"", lie]), &["--isolation", isolation]).await;
            house.reload("villain").await;
            let shown = until("the reason is shown", || async {
                let instance = house.instance("one").await;
                instance["failure"].to_string().contains(why).then_some(instance)
            });
            let shown = shown.await;
            assert_eq!(shown["state"], "running", "{lie}: {shown}");
            assert!(house.host.output().contains(why), "{lie}: {}", house.host.output());
            still_old(lie).await;
        }
        // And one that is good.
        house.add(&villain(&["-DVERSION=\"3.0.0\""]), &["--isolation", isolation]).await;
        assert!(house.reload("villain").await.status.success());
        until("the new one delivers", || async {
            let id = house.send("villain", "ok").await;
            let delivery = house.host.api().state(&id, "villain", "sent").await;
            (delivery["provider_id"] == "3.0.0").then_some(())
        })
        .await;
        house.host.stop().await;
    }
}
