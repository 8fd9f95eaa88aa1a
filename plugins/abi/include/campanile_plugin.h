/* Campanile's plugin interface, major 1, minor 0. Everything a channel in C or C++ needs; C99 and C++17.
 *
 * Rules:
 * - A plugin is one shared library that exports campanile_plugin_v1() and the text made by CAMP_MANIFEST or CAMP_PLUGIN.
 * - Text is UTF-8: pointer and length, no NUL at the end, NULL with length 0 is empty. It and every struct are borrowed
 *   for the one call they are passed to: copy what you keep. Nobody frees the other side's memory.
 * - Who fills a struct sets `size = sizeof(it)`. Who reads one uses a field only if `size` covers it and, if it is a
 *   pointer, it isn't NULL; otherwise the default in the comment holds. New fields only ever come at the end.
 * - Work is named by tokens. Each token you are given ends with exactly one host->complete(), from any thread, at once
 *   or later. Unknown and repeated tokens are counted and ignored.
 * - No exception, panic or longjmp may leave a function. host may be used from any thread until destroy() returns. */
#ifndef CAMPANILE_PLUGIN_H
#define CAMPANILE_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CAMP_ABI_MAJOR 1
#define CAMP_ABI_MINOR 0
#define CAMP_UNSET UINT64_MAX /* "no value" in a uint64_t */

typedef struct camp_str { const char *ptr; size_t len; } camp_str;
/* Where a function writes text, in as many chunks as it likes. */
typedef struct camp_sink { void *ctx; void (*write)(void *ctx, camp_str chunk); } camp_sink;

/* How work ended. For health(): OK = fine, RETRY and THROTTLED = degraded, all else = failing. Unknown = INTERNAL. */
enum {
  CAMP_OK = 0,             /* the far side took responsibility */
  CAMP_RETRY = 1,          /* transient: try again later */
  CAMP_THROTTLED = 2,      /* the far side says slow down */
  CAMP_PERMANENT = 3,      /* this message can never go */
  CAMP_RECIPIENT_GONE = 4, /* the address is dead: don't write to it again */
  CAMP_MISCONFIGURED = 5,  /* our credentials or account: nothing will go until somebody acts */
  CAMP_CANCELLED = 6,      /* cancel() was obeyed; nothing was sent */
  CAMP_INTERNAL = 7        /* a fault of the plugin */
};
enum { CAMP_ERROR = 1, CAMP_WARN = 2, CAMP_INFO = 3, CAMP_DEBUG = 4, CAMP_TRACE = 5 }; /* unknown = INFO */
enum { CAMP_COUNTER = 0, CAMP_GAUGE = 1, CAMP_HISTOGRAM = 2 };                         /* add, set, observe */
/* Unknown flags 0-15 are ignored, unknown flags 16-31 refuse the plugin. */
enum { CAMP_F_BLOCKING = 1u << 0 }; /* deliver() may block; the host calls it on max_concurrency threads */

typedef struct camp_outcome {
  uint32_t size, status;
  uint64_t retry_after_ms; /* CAMP_UNSET: the host decides */
  camp_str code;           /* [a-z0-9_.-], at most 64 bytes */
  camp_str message;        /* for people: no secret, no address */
  camp_str provider_id;    /* the far side's own id */
  camp_str detail_json;    /* an object; "campanile_uncertain": true says that it may have been sent all the same */
} camp_outcome;

typedef struct camp_delivery {
  uint32_t size, attempt; /* from 1 */
  uint64_t token, timeout_ms;
  camp_str delivery_id, idempotency_key; /* both stay the same over attempts */
  camp_str recipient, subject, text, html;
  camp_str message_json; /* the whole notification */
  camp_str traceparent;
} camp_delivery;

typedef struct camp_log { uint32_t size, level; uint64_t token; camp_str target, message, fields_json; } camp_log;
typedef struct camp_metric { uint32_t size, kind; double value; camp_str name, labels_json; } camp_metric;
/* headers_json is an object of strings; a response's names are lower case. A body is any bytes. Redirects are answers. */
typedef struct camp_http_request {
  uint32_t size, reserved;
  uint64_t token, timeout_ms; /* token: the delivery it is for, or 0. timeout_ms: CAMP_UNSET = the host's own */
  camp_str method, url, headers_json, body;
} camp_http_request;
/* status 0: no answer; error is then "word: text", the word one of refused (by the host's rules), connect, timeout,
 * too_large, cancelled, invalid, unsupported. */
typedef struct camp_http_response { uint32_t size, status; camp_str headers_json, body, error; } camp_http_response;
typedef void (*camp_http_cb)(void *user, const camp_http_response *response);
typedef void (*camp_timer_cb)(void *user);

/* What the host offers. One per instance: never keep it in a global. */
typedef struct camp_host {
  uint32_t size, abi_minor;
  void *ctx; /* first argument of every call */
  void (*complete)(void *ctx, uint64_t token, const camp_outcome *outcome);
  /* Not 0: stop and complete with CANCELLED. Ask just before the point of no return. NULL: never. */
  uint32_t (*is_cancelled)(void *ctx, uint64_t token);
  uint32_t (*log_enabled)(void *ctx, uint32_t level, camp_str target); /* NULL: always */
  void (*log)(void *ctx, const camp_log *line);
  void (*metric)(void *ctx, const camp_metric *sample);
  /* 0: taken, the callback comes exactly once, before destroy(), also after a cancel; keep it short. Not 0: refused, no
   * callback. */
  int32_t (*http)(void *ctx, const camp_http_request *request, camp_http_cb done, void *user);
  int32_t (*timer)(void *ctx, uint64_t after_ms, camp_timer_cb done, void *user);
} camp_host;

/* What the plugin offers. Fill it as a static constant. The last four may be NULL. */
typedef struct camp_plugin {
  uint32_t size, abi_minor, flags, reserved;
  /* Writes one JSON object: name, version, display_name, description, license, homepage, recipient {format, required},
   * max_batch, max_concurrency, timeout_ms, idempotent, asks_permission, content ["subject","text","html"],
   * config_schema. Only name and version are required. For operators also: authors, documentation, changelog, and
   * hosts ["api.example.org"], those that it asks to call through the host. */
  void (*describe)(const camp_sink *out);
  /* 0: *instance is set and token is completed once, now or later; OK means ready. Not 0: no instance; complete token
   * with the reason first if you can. */
  int32_t (*start)(const camp_host *host, camp_str config_json, uint64_t token, void **instance);
  /* n deliveries, each with its own token; n is more than 1 only if max_batch is. */
  void (*deliver)(void *instance, const camp_delivery *const *items, size_t n);
  /* The last call, with no other under way: end your threads, then free. */
  void (*destroy)(void *instance);
  /* Writes an array of {"pointer": "/key", "message": "what to do"}; empty or nothing: all well. No I/O. */
  void (*validate)(camp_str config_json, const camp_sink *problems);
  void (*cancel)(void *instance, uint64_t token); /* end this work soon; its token is still completed */
  void (*health)(void *instance, uint64_t token);
  void (*stop)(void *instance, uint64_t token, uint64_t timeout_ms); /* finish up; destroy() follows */
} camp_plugin;

/* ---- exports ---- */
#if defined(_MSC_VER)
#define CAMP_EXPORT __declspec(dllexport)
#define CAMP_IN_SECTION_ __pragma(section(".camp", read)) __declspec(allocate(".camp"))
#elif defined(__APPLE__)
#define CAMP_EXPORT __attribute__((visibility("default")))
#define CAMP_IN_SECTION_ __attribute__((used, section("__DATA,__camp")))
#else
#define CAMP_EXPORT __attribute__((visibility("default")))
#define CAMP_IN_SECTION_ __attribute__((used, section(".camp")))
#endif

/* The machine that the plugin is built for, as the manifest names it. */
#if defined(__x86_64__) || defined(_M_X64)
#define CAMP_ARCH_ "x86_64"
#elif defined(__aarch64__) || defined(_M_ARM64)
#define CAMP_ARCH_ "aarch64"
#elif defined(__i386__) || defined(_M_IX86)
#define CAMP_ARCH_ "x86"
#elif defined(__riscv) && __riscv_xlen == 64
#define CAMP_ARCH_ "riscv64"
#elif defined(__arm__)
#define CAMP_ARCH_ "arm"
#else
#define CAMP_ARCH_ "unknown"
#endif
#if defined(_WIN32)
#if defined(_MSC_VER)
#define CAMP_TARGET CAMP_ARCH_ "-windows-msvc"
#else
#define CAMP_TARGET CAMP_ARCH_ "-windows-gnu"
#endif
#elif defined(__APPLE__)
#define CAMP_TARGET CAMP_ARCH_ "-macos"
#elif defined(__FreeBSD__)
#define CAMP_TARGET CAMP_ARCH_ "-freebsd"
#elif defined(__linux__) && defined(__GLIBC__)
#define CAMP_TARGET CAMP_ARCH_ "-linux-gnu"
#elif defined(__linux__)
#define CAMP_TARGET CAMP_ARCH_ "-linux-musl"
#else
#define CAMP_TARGET CAMP_ARCH_ "-unknown"
#endif

extern CAMP_EXPORT const char campanile_plugin_manifest[];
/* At file scope, once, with a semicolon. The host reads this text before it runs any code. */
#define CAMP_MANIFEST(json) CAMP_IN_SECTION_ const char campanile_plugin_manifest[] = json
#define CAMP_PLUGIN(name, version) \
  CAMP_MANIFEST("{\"campanile_abi\":1,\"min_minor\":0,\"name\":\"" name "\",\"version\":\"" version \
                "\",\"target\":\"" CAMP_TARGET "\"}")

/* The one function that the host looks up. NULL refuses to load. */
CAMP_EXPORT const camp_plugin *campanile_plugin_v1(void);

#ifdef __cplusplus
}
#endif
#endif
