/* The oldest plugin there may be: interface 1.0 by raw declarations, in C89, without the header. A host that can't run it
 * has broken its promise. cc -std=c89 -fPIC -shared plugin.c; never to be changed.
 *
 * Each message ends as sent, with its recipient as the provider's id; the recipient "gone" is gone. */
#include <stddef.h>
#include <string.h>

typedef unsigned int u32;
typedef unsigned long u64;
typedef struct text { const char *ptr; size_t len; } text;
typedef struct sink { void *ctx; void (*write)(void *ctx, text chunk); } sink;
typedef struct outcome { u32 size, status; u64 retry_after_ms; text code, message, provider_id, detail_json; } outcome;
/* As far as this plugin reads it. */
typedef struct delivery { u32 size, attempt; u64 token, timeout_ms; text delivery_id, idempotency_key, recipient; } delivery;
/* As far as this plugin uses it. */
typedef struct host { u32 size, abi_minor; void *ctx; void (*complete)(void *ctx, u64 token, const outcome *); } host;
/* The shortest table of 1.0: up to destroy. */
typedef struct plugin {
  u32 size, abi_minor, flags, reserved;
  void (*describe)(const sink *);
  int (*start)(const host *, text config, u64 token, void **instance);
  void (*deliver)(void *instance, const delivery *const *items, size_t n);
  void (*destroy)(void *instance);
} plugin;

__attribute__((used, section(".camp"), visibility("default"))) const char campanile_plugin_manifest[] =
    "{\"campanile_abi\":1,\"min_minor\":0,\"name\":\"oldest_c\",\"version\":\"1.0.0\",\"target\":\"x86_64-linux-gnu\"}";

static void end(const host *to, u64 token, u32 status, text id) {
  outcome ended;
  memset(&ended, 0, sizeof ended);
  ended.size = sizeof ended;
  ended.status = status;
  ended.retry_after_ms = ~0ul;
  ended.provider_id = id;
  to->complete(to->ctx, token, &ended);
}

static void describe(const sink *out) {
  static const char said[] = "{\"name\":\"oldest_c\",\"version\":\"1.0.0\",\"config_schema\":{\"type\":\"object\"}}";
  text chunk;
  chunk.ptr = said;
  chunk.len = sizeof said - 1;
  out->write(out->ctx, chunk);
}

static int start(const host *to, text config, u64 token, void **instance) {
  text none = {NULL, 0};
  (void)config;
  *instance = (void *)to;
  end(to, token, 0, none);
  return 0;
}

static void deliver(void *instance, const delivery *const *items, size_t n) {
  size_t i;
  for (i = 0; i < n; i++) {
    text to = items[i]->recipient;
    end((const host *)instance, items[i]->token, to.len == 4 && memcmp(to.ptr, "gone", 4) == 0 ? 4 : 0, to);
  }
}

static void destroy(void *instance) { (void)instance; }

static const plugin table = {sizeof(plugin), 0, 0, 0, describe, start, deliver, destroy};

__attribute__((visibility("default"))) const plugin *campanile_plugin_v1(void) { return &table; }
