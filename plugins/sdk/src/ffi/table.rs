//! The functions behind the table. Each turns pointers into values, keeps panics in, and leaves the rest to `instance`.

use super::{Line, instance::Instance};
use crate::{
    Channel, OwnedDelivery, Problem, bridge,
    contain::contained,
    wire::{self, Description, Outcome, Status},
};
use campanile_plugin_abi::{self as abi, Sink, Str, View};
use serde_json::json;
use std::{ffi::c_void, slice, time::Duration};

/// The longest that any delivery may take.
const TIMEOUT_MAX_MS: u64 = 300_000;

/// The table of a channel.
pub const fn table<C: Channel>() -> abi::Plugin {
    abi::Plugin::new(describe::<C>, start::<C>, deliver::<C>, destroy::<C>)
        .validate(Some(validate::<C>))
        .cancel(Some(cancel::<C>))
        .health(Some(health::<C>))
        .stop(Some(stop::<C>))
}

/// The host has looked the table up: from here on this library's panics and events belong to it.
pub fn entered() {
    let _ = contained(bridge::install);
}

/// # Safety
///
/// `sink` is null, or lent for this call.
unsafe fn write(sink: *const Sink, text: &str) {
    if !sink.is_null() {
        // SAFETY: not null, and lent by our caller until it returns.
        unsafe { (*sink).write(text.as_bytes()) };
    }
}

unsafe extern "C" fn describe<C: Channel>(out: *const Sink) {
    let described = contained(|| json!(Description::of::<C>()).to_string());
    let text = described.unwrap_or_else(|panic| json!({ "error": panic.0 }).to_string());
    // SAFETY: the host lends the sink for this call.
    unsafe { write(out, &text) };
}

unsafe extern "C" fn validate<C: Channel>(config: Str, problems: *const Sink) {
    // SAFETY: the host lends the text for this call.
    let config = unsafe { config.bytes() };
    let found = match contained(|| wire::config::<C>(config).map(drop)) {
        Ok(Ok(())) => Vec::new(),
        Ok(Err(problems)) => problems,
        Err(panic) => vec![Problem::new("", panic.0)],
    };
    // SAFETY: the host lends the sink for this call.
    unsafe { write(problems, &wire::problems_json(&found)) };
}

unsafe extern "C" fn start<C: Channel>(host: *const abi::Host, config: Str, token: u64, out: *mut *mut c_void) -> i32 {
    let started = contained(|| {
        if out.is_null() {
            return -1;
        }
        // SAFETY: the host promises its table until `destroy` has returned; the instance closes the line before.
        let Ok(line) = (unsafe { Line::new(host) }) else { return -1 };
        // SAFETY: the host lends the text for this call.
        let config = unsafe { config.bytes() }.to_vec();
        match Instance::<C>::start(line.clone(), config, token) {
            Ok(instance) => {
                // SAFETY: not null, and lent for this call.
                unsafe { out.write(Box::into_raw(Box::new(instance)).cast()) };
                0
            }
            Err(error) => {
                line.complete(token, &Outcome::new(Status::Retry, "no_threads", error.to_string()));
                line.close();
                -1
            }
        }
    });
    started.unwrap_or(-1)
}

/// # Safety
///
/// `raw` is what `start` made for the same channel, and `destroy` hasn't been called.
unsafe fn with<C: Channel>(raw: *mut c_void, work: impl FnOnce(&Instance<C>)) {
    let _ = contained(|| {
        // SAFETY: the caller's promise; an instance is only ever shared until `destroy`.
        if let Some(instance) = unsafe { raw.cast::<Instance<C>>().as_ref() } {
            work(instance);
        }
    });
}

unsafe extern "C" fn deliver<C: Channel>(raw: *mut c_void, items: *const *const abi::Delivery, n: usize) {
    let deliver = |instance: &Instance<C>| {
        if items.is_null() || n == 0 {
            return;
        }
        // SAFETY: not null, and the host lends `n` pointers for this call.
        let items = unsafe { slice::from_raw_parts(items, n) };
        // SAFETY: the host lends what each of them points to. One that is no delivery has no token to end either.
        let items = items.iter().filter_map(|item| unsafe { View::new(*item) }.ok()).map(owned).collect();
        instance.deliver(items);
    };
    // SAFETY: the host passes what `start` made.
    unsafe { with::<C>(raw, deliver) };
}

fn owned(d: View<'_, abi::Delivery>) -> (u64, OwnedDelivery) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let owned = OwnedDelivery {
        delivery_id: text(d.delivery_id()),
        idempotency_key: text(d.idempotency_key()),
        attempt: d.attempt(),
        recipient: text(d.recipient()),
        subject: text(d.subject()),
        text: text(d.text()),
        html: text(d.html()),
        message: text(d.message_json()).into(),
        timeout: Duration::from_millis(d.timeout_ms().min(TIMEOUT_MAX_MS)),
        traceparent: text(d.traceparent()),
    };
    (d.token(), owned)
}

unsafe extern "C" fn cancel<C: Channel>(raw: *mut c_void, token: u64) {
    // SAFETY: the host passes what `start` made.
    unsafe { with::<C>(raw, |instance| instance.cancel(token)) };
}

unsafe extern "C" fn health<C: Channel>(raw: *mut c_void, token: u64) {
    // SAFETY: the host passes what `start` made.
    unsafe { with::<C>(raw, |instance| instance.health(token)) };
}

unsafe extern "C" fn stop<C: Channel>(raw: *mut c_void, token: u64, _timeout_ms: u64) {
    // SAFETY: the host passes what `start` made.
    unsafe { with::<C>(raw, |instance| instance.stop(token)) };
}

unsafe extern "C" fn destroy<C: Channel>(raw: *mut c_void) {
    let _ = contained(|| {
        if !raw.is_null() {
            // SAFETY: what `start` made; this is the last call and the only one under way.
            drop(unsafe { Box::from_raw(raw.cast::<Instance<C>>()) });
        }
    });
}
