//! W3C trace context: one id from the caller's request to the provider's.
//!
//! Owns: reading and writing `traceparent`, and which span an attempt is. Absent on purpose: `tracestate` and baggage,
//! which may name people; exporting spans.

use crate::{DeliveryId, NotificationId};
use std::fmt;

/// The trace that a notification is part of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceContext {
    trace_id: u128,
    /// The caller's span.
    parent: u64,
    flags: u8,
}

impl TraceContext {
    /// `00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01`. What is not one is no context, as the standard wants it:
    /// a caller's mistake in it must not cost the notification.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let hex = |text: &str, len: usize| {
            text.len() == len && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        if !(hex(version, 2) && hex(trace, 32) && hex(parent, 16) && hex(flags, 2)) || version == "ff" {
            return None;
        }
        // Later versions may add parts; this one has four.
        if version == "00" && parts.next().is_some() {
            return None;
        }
        let (trace_id, parent) = (u128::from_str_radix(trace, 16).ok()?, u64::from_str_radix(parent, 16).ok()?);
        let flags = u8::from_str_radix(flags, 16).ok()?;
        (trace_id != 0 && parent != 0).then_some(Self { trace_id, parent, flags })
    }

    /// For a notification that came without one: a trace of its own, that nobody asked to keep.
    pub fn of(id: NotificationId) -> Self {
        Self { trace_id: id.0.as_u128(), parent: last_half(id.0.as_u128()), flags: 0 }
    }

    /// 32 hexadecimal digits.
    pub fn trace_id(self) -> String {
        format!("{:032x}", self.trace_id)
    }

    /// What a provider is told: this trace, with the attempt as the span that calls. The same attempt is the same span.
    pub fn of_attempt(self, delivery: DeliveryId, attempt: u32) -> Self {
        Self { parent: last_half(delivery.0.as_u128()) ^ u64::from(attempt), ..self }
    }
}

/// The random half of an id; its variant bits are never all zero.
fn last_half(id: u128) -> u64 {
    u64::try_from(id & u128::from(u64::MAX)).unwrap_or(1)
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.parent, self.flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_context_is_read_as_the_standard_says() {
        let read = TraceContext::parse(GOOD).unwrap();
        assert_eq!((read.to_string().as_str(), read.trace_id().as_str()), (GOOD, "0af7651916cd43dd8448eb211c80319c"));
        assert!(TraceContext::parse(&format!("{}-later", GOOD.replacen("00", "01", 1))).is_some(), "a later version");
        for wrong in [
            "",
            "00",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            "00-\u{e9}af7651916cd43dd8448eb211c8031-b7ad6b7169203331-01",
        ] {
            assert_eq!(TraceContext::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn each_attempt_is_a_span_of_the_same_trace() {
        let (notification, delivery) = (NotificationId::new(), DeliveryId::new());
        let own = TraceContext::of(notification);
        assert_eq!(own.trace_id(), notification.0.simple().to_string());
        let [one, two] = [1, 2].map(|n| own.of_attempt(delivery, n));
        assert_eq!((one.trace_id(), two.trace_id()), (own.trace_id(), own.trace_id()));
        assert!(one != two && one == own.of_attempt(delivery, 1));
        assert_eq!(TraceContext::parse(&one.to_string()), Some(one));
    }
}
