//! What stands in a message of a work queue: `{"v":1,"delivery_id":"…"}`, and nothing that could not be read twice.

use campanile_model::DeliveryId;
use lapin::BasicProperties;
use serde::{Deserialize, Serialize};

const VERSION: u64 = 1;
/// AMQP's number for "survives a restart of the broker".
const PERSISTENT: u8 = 2;

#[derive(Serialize, Deserialize)]
struct Work {
    v: u64,
    delivery_id: DeliveryId,
}

#[derive(Deserialize)]
struct Versioned {
    v: u64,
}

pub(super) fn write(id: DeliveryId) -> Vec<u8> {
    // Two fields of plain types always have a JSON form.
    serde_json::to_vec(&Work { v: VERSION, delivery_id: id }).unwrap_or_default()
}

pub(super) fn properties(id: DeliveryId) -> BasicProperties {
    BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type("application/json".into())
        .with_message_id(id.to_string().into())
}

/// The error is the reason that the poison list shows.
pub(super) fn read(body: &[u8]) -> Result<DeliveryId, String> {
    let version: Versioned = serde_json::from_slice(body).map_err(|e| format!("not a message of ours: {e}"))?;
    if version.v != VERSION {
        return Err(format!("version {} is not known; this node knows {VERSION}", version.v));
    }
    serde_json::from_slice::<Work>(body).map(|work| work.delivery_id).map_err(|e| format!("not a message of ours: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let id = DeliveryId::new();
        assert_eq!(String::from_utf8(write(id)).unwrap(), format!("{{\"v\":1,\"delivery_id\":\"{id}\"}}"));
        assert_eq!(read(&write(id)), Ok(id));
        assert_eq!(read(br#"{"v":2,"anything":true}"#).unwrap_err(), "version 2 is not known; this node knows 1");
        for poison in [&b""[..], b"hello", b"{}", br#"{"v":1}"#, br#"{"v":1,"delivery_id":"x"}"#, b"\xff\xfe"] {
            assert!(read(poison).unwrap_err().starts_with("not a message of ours"), "{poison:?}");
        }
    }
}
