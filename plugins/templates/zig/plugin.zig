//! A channel for Campanile: posts each notification, as JSON, to a URL.
//!
//! The host makes the request, on its own threads and under its rules for addresses, and calls us back. So nothing here
//! waits, and there are no threads to end.

const std = @import("std");
const builtin = @import("builtin");

// ---- campanile_plugin.h, major 1, minor 0. Read it: its comments are the documentation.

const Str = extern struct {
    ptr: ?[*]const u8 = null,
    len: usize = 0,

    fn of(bytes: []const u8) Str {
        return .{ .ptr = bytes.ptr, .len = bytes.len };
    }
    fn slice(self: Str) []const u8 {
        return if (self.ptr) |ptr| ptr[0..self.len] else "";
    }
};
const Sink = extern struct { ctx: ?*anyopaque, write: *const fn (?*anyopaque, Str) callconv(.c) void };
const Status = enum(u32) { ok, retry, throttled, permanent, recipient_gone, misconfigured, cancelled, internal };
const unset = std.math.maxInt(u64);

const Outcome = extern struct {
    size: u32 = @sizeOf(Outcome),
    status: u32,
    retry_after_ms: u64 = unset,
    code: Str = .{},
    message: Str = .{},
    provider_id: Str = .{},
    detail_json: Str = .{},
};
const Delivery = extern struct {
    size: u32,
    attempt: u32,
    token: u64,
    timeout_ms: u64,
    delivery_id: Str,
    idempotency_key: Str,
    recipient: Str,
    subject: Str,
    text: Str,
    html: Str,
    message_json: Str,
    traceparent: Str,
};
const Request = extern struct {
    size: u32 = @sizeOf(Request),
    reserved: u32 = 0,
    token: u64,
    timeout_ms: u64 = unset,
    method: Str,
    url: Str,
    headers_json: Str,
    body: Str,
};
const Response = extern struct { size: u32, status: u32, headers_json: Str, body: Str, @"error": Str };
const Answered = *const fn (?*anyopaque, *const Response) callconv(.c) void;
const Host = extern struct {
    size: u32,
    abi_minor: u32,
    ctx: ?*anyopaque,
    complete: *const fn (?*anyopaque, u64, *const Outcome) callconv(.c) void,
    is_cancelled: ?*const fn (?*anyopaque, u64) callconv(.c) u32,
    log_enabled: ?*const anyopaque,
    log: ?*const anyopaque,
    metric: ?*const anyopaque,
    http: ?*const fn (?*anyopaque, *const Request, Answered, ?*anyopaque) callconv(.c) i32,
    timer: ?*const anyopaque,

    fn end(self: *const Host, token: u64, outcome: Outcome) void {
        self.complete(self.ctx, token, &outcome);
    }
};
const Plugin = extern struct {
    size: u32 = @sizeOf(Plugin),
    abi_minor: u32 = 0,
    flags: u32 = 0,
    reserved: u32 = 0,
    describe: *const fn (*const Sink) callconv(.c) void,
    start: *const fn (*const Host, Str, u64, *?*anyopaque) callconv(.c) i32,
    deliver: *const fn (?*anyopaque, [*]const *const Delivery, usize) callconv(.c) void,
    destroy: *const fn (?*anyopaque) callconv(.c) void,
    validate: ?*const fn (Str, *const Sink) callconv(.c) void = null,
    cancel: ?*const anyopaque = null,
    health: ?*const anyopaque = null,
    stop: ?*const anyopaque = null,
};

comptime {
    std.debug.assert(@sizeOf(Outcome) == 80 and @sizeOf(Delivery) == 152 and @sizeOf(Request) == 88);
    std.debug.assert(@sizeOf(Response) == 56 and @sizeOf(Host) == 72 and @sizeOf(Plugin) == 80);
}

// ---- The channel.

const name = "my_channel";
const version = "0.1.0";
const gpa = std.heap.c_allocator;

/// The machine, as the manifest names it.
const target = @tagName(builtin.cpu.arch) ++ switch (builtin.os.tag) {
    .macos => "-macos",
    .freebsd => "-freebsd",
    .windows => "-windows-gnu",
    else => if (builtin.abi.isMusl()) "-linux-musl" else "-linux-gnu",
};
const manifest = "{\"campanile_abi\":1,\"min_minor\":0,\"name\":\"" ++ name ++ "\",\"version\":\"" ++ version ++
    "\",\"target\":\"" ++ target ++ "\"}";
/// The host reads this text before it runs any code.
export const campanile_plugin_manifest: [manifest.len:0]u8 linksection(if (builtin.os.tag == .macos) "__DATA,__camp" else ".camp") = manifest.*;

const description =
    \\{"name":"
++ name ++
    \\","version":"
++ version ++
    \\","description":"Posts each notification, as JSON, to a URL.","recipient":{"format":"
++ name ++
    \\"},"max_concurrency":16,"content":[],"config_schema":{"type":"object","properties":{"url":{"type":"string",
    \\"format":"uri","pattern":"^https?://","description":"Where notifications go."}},"required":["url"],
    \\"additionalProperties":false}}
;

const Config = struct { url: []const u8 };

const Instance = struct {
    /// Belongs to the instance, never to a global.
    host: *const Host,
    config: std.json.Parsed(Config),

    fn deliverOne(self: *Instance, d: *const Delivery) void {
        const host = self.host;
        const job = gpa.create(Job) catch return notTaken(host, d.token);
        job.* = .{ .host = host, .token = d.token };
        // The key is the host's own: letters, digits and dashes, so it needs no escaping.
        var buffer: [256]u8 = undefined;
        const headers = std.fmt.bufPrint(
            &buffer,
            "{{\"content-type\":\"application/json\",\"idempotency-key\":\"{s}\"}}",
            .{d.idempotency_key.slice()},
        ) catch "{\"content-type\":\"application/json\"}";
        const request: Request = .{
            .token = d.token,
            .method = .of("POST"),
            .url = .of(self.config.value.url),
            .headers_json = .of(headers),
            .body = d.message_json,
        };
        if (host.http.?(host.ctx, &request, answered, job) != 0) {
            gpa.destroy(job); // refused: there is no callback
            notTaken(host, d.token);
        }
    }
};

fn notTaken(host: *const Host, token: u64) void {
    host.end(token, .{ .status = @intFromEnum(Status.retry), .code = .of("not_taken") });
}

/// A request under way.
const Job = struct { host: *const Host, token: u64 };

fn describe(out: *const Sink) callconv(.c) void {
    out.write(out.ctx, .of(description));
}

fn parsed(json: Str) ?std.json.Parsed(Config) {
    const config = std.json.parseFromSlice(Config, gpa, json.slice(), .{ .allocate = .alloc_always }) catch return null;
    const url = config.value.url;
    if (std.mem.startsWith(u8, url, "https://") or std.mem.startsWith(u8, url, "http://")) return config;
    config.deinit();
    return null;
}

fn validate(json: Str, problems: *const Sink) callconv(.c) void {
    const config = parsed(json) orelse {
        problems.write(problems.ctx, .of("[{\"pointer\":\"/url\",\"message\":\"must begin with https:// or http://\"}]"));
        return;
    };
    config.deinit();
}

fn start(host: *const Host, json: Str, token: u64, out: *?*anyopaque) callconv(.c) i32 {
    const why = blk: {
        if (host.size < @offsetOf(Host, "timer") or host.http == null) break :blk "this host makes no requests";
        const config = parsed(json) orelse break :blk "url must begin with https:// or http://";
        const self = gpa.create(Instance) catch {
            config.deinit();
            break :blk "there is no memory left";
        };
        self.* = .{ .host = host, .config = config };
        out.* = self;
        host.end(token, .{ .status = @intFromEnum(Status.ok) });
        return 0;
    };
    host.end(token, .{ .status = @intFromEnum(Status.misconfigured), .code = .of("config"), .message = .of(why) });
    return -1;
}

fn deliver(raw: ?*anyopaque, items: [*]const *const Delivery, n: usize) callconv(.c) void {
    const self: *Instance = @ptrCast(@alignCast(raw));
    for (items[0..n]) |d| self.deliverOne(d);
}

/// Called once for each request, whatever became of it.
fn answered(raw: ?*anyopaque, r: *const Response) callconv(.c) void {
    const job: *Job = @ptrCast(@alignCast(raw));
    defer gpa.destroy(job);
    if (r.status == 0) {
        const refused = std.mem.startsWith(u8, r.@"error".slice(), "refused");
        const status: Status = if (refused) .permanent else .retry;
        return job.host.end(job.token, .{ .status = @intFromEnum(status), .code = .of("no_answer"), .message = r.@"error" });
    }
    const status: Status = switch (r.status) {
        200...299 => .ok,
        429 => .throttled,
        410 => .recipient_gone,
        401, 403 => .misconfigured,
        408, 500...599 => .retry,
        else => .permanent,
    };
    var buffer: [32]u8 = undefined;
    const code = std.fmt.bufPrint(&buffer, "http_{d}", .{r.status}) catch "http";
    job.host.end(job.token, .{ .status = @intFromEnum(status), .code = .of(if (status == .ok) "" else code) });
}

fn destroy(raw: ?*anyopaque) callconv(.c) void {
    const self: *Instance = @ptrCast(@alignCast(raw));
    self.config.deinit();
    gpa.destroy(self);
}

const table: Plugin = .{ .describe = describe, .start = start, .deliver = deliver, .destroy = destroy, .validate = validate };

export fn campanile_plugin_v1() *const Plugin {
    return &table;
}
