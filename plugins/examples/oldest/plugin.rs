//! The oldest plugin there may be: interface 1.0 by raw declarations, in the Rust of 1.63, without the SDK. A host that can't
//! run it has broken its promise. `rustc --edition 2018 --crate-type cdylib -C panic=abort plugin.rs`; never to be changed.
//!
//! Each message ends as sent, with its recipient as the provider's id; the recipient "gone" is gone.

use std::{ffi::c_void, mem::size_of, ptr::null};

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Str {
    ptr: *const u8,
    len: usize,
}

#[repr(C)]
pub struct Sink {
    ctx: *mut c_void,
    write: unsafe extern "C" fn(*mut c_void, Str),
}

#[repr(C)]
pub struct Outcome {
    size: u32,
    status: u32,
    retry_after_ms: u64,
    code: Str,
    message: Str,
    provider_id: Str,
    detail_json: Str,
}

/// As far as this plugin reads it.
#[repr(C)]
pub struct Delivery {
    size: u32,
    attempt: u32,
    token: u64,
    timeout_ms: u64,
    delivery_id: Str,
    idempotency_key: Str,
    recipient: Str,
}

/// As far as this plugin uses it.
#[repr(C)]
pub struct Host {
    size: u32,
    abi_minor: u32,
    ctx: *mut c_void,
    complete: unsafe extern "C" fn(*mut c_void, u64, *const Outcome),
}

/// The shortest table of 1.0: up to `destroy`.
#[repr(C)]
pub struct Plugin {
    size: u32,
    abi_minor: u32,
    flags: u32,
    reserved: u32,
    describe: unsafe extern "C" fn(*const Sink),
    start: unsafe extern "C" fn(*const Host, Str, u64, *mut *mut c_void) -> i32,
    deliver: unsafe extern "C" fn(*mut c_void, *const *const Delivery, usize),
    destroy: unsafe extern "C" fn(*mut c_void),
}

const EMPTY: Str = Str { ptr: null(), len: 0 };

fn text(bytes: &'static [u8]) -> Str {
    Str { ptr: bytes.as_ptr(), len: bytes.len() }
}

unsafe fn end(host: *const Host, token: u64, status: u32, id: Str) {
    let code = if status == 0 { EMPTY } else { text(b"gone") };
    let outcome = Outcome {
        size: size_of::<Outcome>() as u32,
        status,
        retry_after_ms: u64::MAX,
        code,
        message: EMPTY,
        provider_id: id,
        detail_json: EMPTY,
    };
    ((*host).complete)((*host).ctx, token, &outcome);
}

unsafe extern "C" fn describe(out: *const Sink) {
    ((*out).write)((*out).ctx, text(b"{\"name\":\"oldest_rust\",\"version\":\"1.0.0\",\"config_schema\":{\"type\":\"object\"}}"));
}

unsafe extern "C" fn start(host: *const Host, _: Str, token: u64, instance: *mut *mut c_void) -> i32 {
    *instance = host as *mut c_void;
    end(host, token, 0, EMPTY);
    0
}

unsafe extern "C" fn deliver(instance: *mut c_void, items: *const *const Delivery, n: usize) {
    for i in 0..n {
        let item = &**items.add(i);
        let recipient = item.recipient;
        let gone = recipient.len == 4 && std::slice::from_raw_parts(recipient.ptr, 4) == b"gone";
        end(instance as *const Host, item.token, if gone { 4 } else { 0 }, recipient);
    }
}

unsafe extern "C" fn destroy(_: *mut c_void) {}

static TABLE: Plugin = Plugin {
    size: size_of::<Plugin>() as u32,
    abi_minor: 0,
    flags: 0,
    reserved: 0,
    describe,
    start,
    deliver,
    destroy,
};

#[no_mangle]
pub extern "C" fn campanile_plugin_v1() -> *const Plugin {
    &TABLE
}

const MANIFEST: &[u8; 104] = b"{\"campanile_abi\":1,\"min_minor\":0,\"name\":\"oldest_rust\",\"version\":\"1.0.0\",\"target\":\"x86_64-linux-gnu\"}   \0";

#[used]
#[no_mangle]
#[link_section = ".camp"]
pub static campanile_plugin_manifest: [u8; 104] = *MANIFEST;
