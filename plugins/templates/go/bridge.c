/* What cgo can't say: the manifest, the table, and calls through the host's pointers. */
#include "bridge.h"
#include "_cgo_export.h"

#include <string.h>

CAMP_PLUGIN("my_channel", "0.1.0");

static camp_str text_of(const char *ptr, size_t len) {
  camp_str text = {ptr, len};
  return text;
}

void bridge_end(const camp_host *host, uint64_t token, uint32_t status, uint64_t retry_after_ms, const char *code,
                size_t code_len, const char *message, size_t message_len) {
  camp_outcome outcome;
  memset(&outcome, 0, sizeof outcome);
  outcome.size = sizeof outcome;
  outcome.status = status;
  outcome.retry_after_ms = retry_after_ms;
  outcome.code = text_of(code, code_len);
  outcome.message = text_of(message, message_len);
  host->complete(host->ctx, token, &outcome);
}

static void answered(void *user, const camp_http_response *response) {
  channelAnswered((uintptr_t)user, response->status, (char *)response->headers_json.ptr, response->headers_json.len,
                  (char *)response->error.ptr, response->error.len);
}

int32_t bridge_post(const camp_host *host, uint64_t token, const char *url, size_t url_len, const char *headers,
                    size_t headers_len, const char *body, size_t body_len, uintptr_t job) {
  camp_http_request request;
  if (host->size < offsetof(camp_host, http) + sizeof host->http || host->http == NULL) return -1;
  memset(&request, 0, sizeof request);
  request.size = sizeof request;
  request.token = token;
  request.timeout_ms = CAMP_UNSET;
  request.method = text_of("POST", 4);
  request.url = text_of(url, url_len);
  request.headers_json = text_of(headers, headers_len);
  request.body = text_of(body, body_len);
  return host->http(host->ctx, &request, answered, (void *)job);
}

void bridge_write(const camp_sink *sink, const char *text, size_t len) { sink->write(sink->ctx, text_of(text, len)); }

const camp_delivery *bridge_item(const camp_delivery *const *items, size_t i) { return items[i]; }

static void describe(const camp_sink *out) { channelDescribe((camp_sink *)out); }

static void validate(camp_str config, const camp_sink *problems) {
  channelValidate((char *)config.ptr, config.len, (camp_sink *)problems);
}

static int32_t start(const camp_host *host, camp_str config, uint64_t token, void **instance) {
  uintptr_t handle = channelStart((camp_host *)host, (char *)config.ptr, config.len, token);
  *instance = (void *)handle;
  return handle == 0 ? -1 : 0;
}

static void deliver(void *instance, const camp_delivery *const *items, size_t n) {
  channelDeliver((uintptr_t)instance, (void *)items, n);
}

static void destroy(void *instance) { channelDestroy((uintptr_t)instance); }

static const camp_plugin table = {
    sizeof(camp_plugin), CAMP_ABI_MINOR, 0, 0, describe, start, deliver, destroy, validate, NULL, NULL, NULL,
};

CAMP_EXPORT const camp_plugin *campanile_plugin_v1(void) { return &table; }
