//! Configurations and messages that nobody means: the plugin may refuse each of them, and must survive all.
//!
//! A server's schema keeps most of this from a plugin; a schema says little about the length of a text or what stands in it,
//! and a crash costs every delivery under way.

use super::{
    exam::{Exam, LIMIT, SOON, becomes, works},
    refused,
    sheet::{Found, Not, failed, ok, skipped},
};
use campanile_loader::{Plugin, Running};
use campanile_plugin::Delivery;
use futures_util::future::join_all;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// Long, and well within a frame.
const LONG: usize = 64 * 1024;

/// What is asked of `validate`, in a child each.
pub async fn configurations(plugin: &Plugin, config: &Value) -> Found {
    let deep = (0..100).fold(json!([]), |inner, _| json!([inner]));
    let mut all =
        vec![Value::Null, json!(true), json!(7), json!("text"), json!([]), json!([{}]), json!({ "": "" }), deep];
    all.push(json!({ "x".repeat(LONG): "x".repeat(LONG) }));
    // Each key with a value of every wrong kind.
    for wrong in
        [Value::Null, json!(-1), json!([1]), json!({ "a": 1 }), json!("\u{0}\r\n\u{1b}[2J"), json!("x".repeat(LONG))]
    {
        let keys = config.as_object().into_iter().flatten();
        all.push(Value::Object(keys.map(|(key, _)| (key.clone(), wrong.clone())).collect::<Map<_, _>>()));
    }
    let n = all.len();
    let asked = join_all(all.iter().map(|config| refused(plugin, None, config))).await;
    match asked.into_iter().find_map(Result::err) {
        Some(Not::Failed(why)) => failed(why),
        _ => ok(format!("{n} were looked at, and each was answered")),
    }
}

impl Exam<'_> {
    /// Each must end, however it ends.
    pub async fn garbage(&self, one: &Running) -> Found {
        // What was tried before may have cost it its process.
        if !becomes(LIMIT, || works(one)).await {
            return skipped("it does not run");
        }
        let (long, wild) = ("x".repeat(LONG), "\u{0}\r\n\t\u{1b}[2J\u{202e}'\";--\\%s%n{}");
        let to = self.recipient;
        let message = json!({ "title": wild, "data": { wild: [null, { "": long }] } });
        let all = [
            ("no recipient", Delivery::new("d", "").with_content("a", "b", "")),
            ("a recipient of 64 KiB", Delivery::new("d", &long).with_content("a", "b", "")),
            ("control characters in the recipient", Delivery::new("d", wild).with_content("a", "b", "")),
            ("no content", Delivery::new("d", to)),
            ("control characters in the content", Delivery::new("d", to).with_content(wild, wild, wild)),
            ("64 KiB of subject, text and HTML", Delivery::new("d", to).with_content(&long, &long, &long)),
            ("a strange message", Delivery::new("d", to).with_content("a", "b", "").with_message(&message)),
            ("no time", Delivery::new("d", to).with_content("a", "b", "")),
        ];
        let n = all.len();
        for (what, delivery) in all {
            let limit = if what == "no time" { Duration::from_millis(1) } else { LIMIT };
            if let Err(why) = self.ended(one, delivery.with_timeout(limit), limit).await
                && !(what == "no time" && why.contains("did not complete its token"))
            {
                return failed(format!(
                    "with {what}, {why}; a delivery may be refused, and nothing in it may be trusted"
                ));
            }
        }
        if !becomes(SOON, || one.life().abandoned == 0).await {
            return failed("one whose time was over at once never ended: complete() its token all the same");
        }
        ok(format!("{n} were tried, and each ended"))
    }
}
