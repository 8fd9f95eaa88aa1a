//! What a relay's answer means for the delivery. Enhanced code first, then the basic code.
//!
//! Only proof about the recipient may suppress an address; what a relay holds against us must not.

use crate::{
    dialogue::{Fault, Phase},
    wire::Reply,
};
use campanile_plugin::{DeliveryError, Reason};

/// Suspicions are counted over this many days.
const DAYS: u32 = 30;

/// The outcome for the host. Logs what an operator must hear of.
pub(crate) fn judge(fault: Fault) -> DeliveryError {
    match fault {
        Fault::Refused(phase, reply) => classify(phase, &reply),
        Fault::Timeout(phase) => transient(phase, "timeout", format!("no answer in time at {phase}")),
        Fault::Lost(Phase::Connect, e) => transient(Phase::Connect, "connect_failed", format!("can't connect: {e}")),
        Fault::Lost(phase, e) => transient(phase, "connection_lost", format!("connection lost at {phase}: {e}")),
        Fault::OutOfStep(phase, what) => {
            transient(phase, "out_of_step", format!("unexpected answer at {phase}: {what}"))
        }
        Fault::Tls(what) => misconfigured("tls_failed", what),
        Fault::Lacks(code, what) => misconfigured(code, what),
        Fault::UnsupportedAddress => DeliveryError::Permanent {
            reason: Reason::new(
                "unsupported_address",
                "the address has non-ASCII characters before the @ and the relay does not offer SMTPUTF8",
            ),
        },
        Fault::NotPermitted => lease_lost(),
    }
}

/// The delivery was taken back before anything was sent.
pub(crate) fn lease_lost() -> DeliveryError {
    let reason = Reason::new("lease_lost", "the delivery was no longer ours; nothing was sent");
    DeliveryError::Retry { after: None, reason }
}

/// From the final dot on, what we do not know may have been delivered.
fn transient(phase: Phase, code: &'static str, message: String) -> DeliveryError {
    let reason = Reason::new(code, message);
    let reason = if phase == Phase::Dot { reason.uncertain() } else { reason };
    DeliveryError::Retry { after: None, reason }
}

fn misconfigured(code: &'static str, message: String) -> DeliveryError {
    DeliveryError::Misconfigured { reason: Reason::new(code, message) }
}

/// A proper refusal at a phase; a 503 never gets here, it is out of step.
pub(crate) fn classify(phase: Phase, reply: &Reply) -> DeliveryError {
    let reason = || {
        let text = if reply.text.is_empty() { "no text" } else { &reply.text };
        Reason::new(reply.word(), format!("{} at {phase}: {text}", reply.code))
    };
    let retry = |reason| DeliveryError::Retry { after: None, reason };
    match reply.code {
        421 => return retry(reason()),
        530 | 535 | 538 => return DeliveryError::Misconfigured { reason: reason() },
        _ => {}
    }
    match phase {
        // Before MAIL nothing said concerns this mail: for good means our account or address is at fault.
        Phase::Connect | Phase::Greeting | Phase::Hello | Phase::StartTls | Phase::Auth | Phase::Reset => {
            return if reply.class() == 5 {
                DeliveryError::Misconfigured { reason: reason() }
            } else {
                retry(reason())
            };
        }
        Phase::Mail | Phase::Rcpt | Phase::Data | Phase::Content | Phase::Dot => {}
    }
    match reply.enhanced {
        Some((4 | 5, 2, 2)) => {
            let reason = Reason { code: "mailbox_full".into(), ..reason() };
            retry(reason.suspect("mailbox_full", 3, DAYS))
        }
        Some((4, 7, _)) => DeliveryError::Throttled { after: None, reason: reason() },
        // A relay that says 4yz wants another try, whatever its enhanced code says (Postfix with `soft_bounce`).
        Some((5, ..)) if reply.class() == 4 => retry(reason()),
        // At MAIL it is our own address that is refused.
        Some((5, 1, 1 | 2 | 3 | 6 | 10)) if phase != Phase::Mail => DeliveryError::RecipientGone { reason: reason() },
        Some((5, 2, 1)) => DeliveryError::Permanent { reason: reason().suspect("disabled", 2, DAYS) },
        Some((5, 7, _)) => {
            tracing::error!(
                smtp.code = %reply.word(),
                "The relay refuses our mail by policy ({}); check SPF, DKIM, DMARC and blocklists: {}",
                reply.word(),
                reply.text
            );
            DeliveryError::Permanent { reason: reason() }
        }
        Some((5, _, _)) => DeliveryError::Permanent { reason: reason() },
        Some((4, _, _)) => retry(reason()),
        _ if reply.class() == 5 => DeliveryError::Permanent { reason: reason() },
        _ => retry(reason()),
    }
}
