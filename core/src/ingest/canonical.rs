//! The hash that says whether two requests are the same: keys sorted, blanks gone, defaults not filled in.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// SHA-256 of the parsed, re-serialised request.
pub fn hash(value: &Value) -> [u8; 32] {
    let mut text = String::new();
    write(&mut text, value);
    Sha256::digest(text.as_bytes()).into()
}

/// Own recursion, so that the order does not hang on which map type serde_json was built with. Its depth is bounded by
/// the parser's limit of 128.
fn write(out: &mut String, value: &Value) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by(|a, b| a.0.cmp(b.0));
            out.push('{');
            for (i, (key, value)) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write(out, value);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write(out, item);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(text: &str) -> [u8; 32] {
        hash(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn order_and_blanks_do_not_matter_and_everything_else_does() {
        let a = of(r#"{"title":"t","data":{"x":1,"y":[1,2]},"user_id":"u"}"#);
        assert_eq!(a, of(r#" { "user_id" : "u", "data" : {"y":[1, 2], "x":1}, "title":"\u0074"} "#));
        for other in [
            r#"{"title":"t","data":{"x":1,"y":[2,1]},"user_id":"u"}"#,
            r#"{"title":"t","data":{"x":"1","y":[1,2]},"user_id":"u"}"#,
            // Defaults are not filled in.
            r#"{"title":"t","data":{"x":1,"y":[1,2]},"user_id":"u","message":""}"#,
            r#"{"title":"t","data":{"x":1,"y":[1,2]},"user_id":"u","priority":"normal"}"#,
        ] {
            assert_ne!(a, of(other), "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_order_of_keys_hashes_alike(
            pairs in proptest::collection::btree_map(".{0,8}", ".{0,8}", 0..8),
            seed in any::<u64>(),
        ) {
            let text = |order: Vec<(&String, &String)>| {
                let inner: Vec<_> =
                    order.iter().map(|(k, v)| format!("{}:{}", Value::from(k.as_str()), Value::from(v.as_str()))).collect();
                format!("{{\"data\":{{{}}}}}", inner.join(","))
            };
            let forward: Vec<_> = pairs.iter().collect();
            let mut shuffled = forward.clone();
            if !shuffled.is_empty() {
                let by = (seed % shuffled.len() as u64) as usize;
                shuffled.rotate_left(by);
                shuffled.reverse();
            }
            prop_assert_eq!(of(&text(forward)), of(&text(shuffled)));
        }
    }
}
