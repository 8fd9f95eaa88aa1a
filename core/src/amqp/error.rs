//! What went wrong with a broker, as a sentence an operator can act on.

use super::Broker;
use lapin::ErrorKind;

/// Reply codes that AMQP 0-9-1 gives.
pub const ACCESS_REFUSED: u16 = 403;
pub const NOT_FOUND: u16 = 404;
pub const RESOURCE_LOCKED: u16 = 405;
pub const PRECONDITION_FAILED: u16 = 406;
pub const NOT_ALLOWED: u16 = 530;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Something of our name is there with other settings. Nothing but an operator can end this.
    #[error("{0}")]
    Mismatch(String),
    /// User, password, vhost or permissions.
    #[error("{0}")]
    Refused(String),
    /// Not reachable, gone, or silent.
    #[error("{0}")]
    Lost(String),
}

impl LinkError {
    pub fn is_mismatch(&self) -> bool {
        matches!(self, Self::Mismatch(_))
    }
}

/// For everything but a declaration, where 406 has a meaning of its own.
impl From<lapin::Error> for LinkError {
    fn from(e: lapin::Error) -> Self {
        Self::Lost(plain(&e))
    }
}

/// The broker's reply code and text, if it is the broker that speaks.
pub fn reply(e: &lapin::Error) -> Option<(u16, &str)> {
    match e.kind() {
        ErrorKind::ProtocolError(e) => Some((e.get_id(), e.get_message().as_str())),
        _ => None,
    }
}

/// There is no such queue or exchange.
pub fn is_not_found(e: &lapin::Error) -> bool {
    reply(e).is_some_and(|(code, _)| code == NOT_FOUND)
}

/// lapin's error without its own vocabulary.
pub fn plain(e: &lapin::Error) -> String {
    match e.kind() {
        ErrorKind::IOError(e) => e.to_string(),
        ErrorKind::ProtocolError(e) => e.get_message().to_string(),
        ErrorKind::MissingHeartbeatError => "RabbitMQ sent no heartbeat for too long".to_owned(),
        ErrorKind::InvalidConnectionState(_) => "the connection is closed".to_owned(),
        ErrorKind::InvalidChannelState(..) | ErrorKind::InvalidChannel(_) => "the channel is closed".to_owned(),
        _ => e.to_string(),
    }
}

/// What a failed attempt to connect means.
pub(super) fn connecting(broker: &Broker, e: &lapin::Error) -> LinkError {
    let (setting, user) = (broker.setting, broker.user());
    match reply(e) {
        Some((ACCESS_REFUSED, text)) => {
            LinkError::Refused(format!("RabbitMQ refused user {user:?} ({text}); check user and password in {setting}"))
        }
        Some((NOT_ALLOWED, text)) => LinkError::Refused(format!(
            "RabbitMQ did not let user {user:?} into vhost {:?} ({text}); create the vhost, give the user \
             permissions on it, or correct {setting}",
            broker.uri.vhost
        )),
        _ => LinkError::Lost(format!("{broker} can't be used: {}", plain(e))),
    }
}

/// What a refused declaration means. `advice` says what deleting the thing would cost.
pub(super) fn declaring(kind: &str, name: &str, advice: &str, e: &lapin::Error) -> LinkError {
    match reply(e) {
        Some((PRECONDITION_FAILED, text)) => {
            let which = argument(text).map_or("other settings".to_owned(), |arg| format!("another {arg}"));
            LinkError::Mismatch(format!(
                "RabbitMQ has {kind} {name:?} already, with {which} than Campanile needs ({text}); \
                 delete the {kind} ({advice}) or use another vhost"
            ))
        }
        Some((ACCESS_REFUSED, text)) => LinkError::Refused(format!(
            "RabbitMQ did not let us declare {kind} {name:?} ({text}); give the user configure, write and read \
             permissions on it"
        )),
        Some((RESOURCE_LOCKED, text)) => {
            LinkError::Refused(format!("RabbitMQ keeps {kind} {name:?} for another connection ({text})"))
        }
        _ => LinkError::Lost(format!("declaring {kind} {name:?} failed: {}", plain(e))),
    }
}

/// The argument that an "inequivalent arg" sentence is about.
fn argument(text: &str) -> Option<&str> {
    text.split_once("inequivalent arg '")?.1.split_once('\'').map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapin::protocol::{AMQPError, AMQPErrorKind, AMQPSoftError};

    #[test]
    fn a_mismatch_names_the_queue_the_argument_and_the_way_out() {
        let text =
            "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'q' in vhost '/': received 2, current 1";
        let kind = AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED);
        let e = ErrorKind::ProtocolError(AMQPError::new(kind, text.into())).into();
        let said = declaring("queue", "q", "nothing is lost", &e);
        assert!(said.is_mismatch());
        let said = said.to_string();
        for part in ["queue \"q\"", "another x-max-length", "received 2", "delete the queue (nothing is lost)", "vhost"]
        {
            assert!(said.contains(part), "{said}");
        }
    }
}
