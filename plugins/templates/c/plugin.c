/* A channel for Campanile: posts each notification, as JSON, to a URL. Written from campanile_plugin.h alone.
 *
 * The host makes the request, on its own threads and under its rules for addresses, and calls us back. So nothing here
 * waits, and there are no threads to end. */
#include "campanile_plugin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME "my_channel"
#define VERSION "0.1.0"
#define TEXT(literal) text_of(literal, sizeof(literal) - 1)

CAMP_PLUGIN(NAME, VERSION);

typedef struct instance {
  const camp_host *host; /* belongs to the instance, never to a global */
  char *url;
} instance;

/* A request under way. */
typedef struct job {
  const camp_host *host;
  uint64_t token;
} job;

static camp_str text_of(const char *ptr, size_t len) {
  camp_str text;
  text.ptr = ptr;
  text.len = len;
  return text;
}

static void end(const camp_host *host, uint64_t token, uint32_t status, uint64_t retry_after_ms, camp_str code,
                camp_str message) {
  camp_outcome outcome;
  memset(&outcome, 0, sizeof outcome);
  outcome.size = sizeof outcome;
  outcome.status = status;
  outcome.retry_after_ms = retry_after_ms;
  outcome.code = code;
  outcome.message = message;
  host->complete(host->ctx, token, &outcome);
}

static void describe(const camp_sink *out) {
  out->write(out->ctx, TEXT("{\"name\":\"" NAME "\",\"version\":\"" VERSION "\","
                            "\"description\":\"Posts each notification, as JSON, to a URL.\","
                            "\"recipient\":{\"format\":\"" NAME "\"},\"max_concurrency\":16,\"content\":[],"
                            "\"config_schema\":{\"type\":\"object\",\"properties\":{\"url\":{\"type\":\"string\","
                            "\"format\":\"uri\",\"pattern\":\"^https?://[^\\\\\\\\\\\"]+$\","
                            "\"description\":\"Where notifications go.\"}},"
                            "\"required\":[\"url\"],\"additionalProperties\":false}}"));
}

/* Where `needle` stands in the text, or NULL. */
static const char *find(camp_str text, const char *needle) {
  const size_t n = strlen(needle);
  size_t i;
  for (i = 0; i + n <= text.len; i++)
    if (memcmp(text.ptr + i, needle, n) == 0) return text.ptr + i;
  return NULL;
}

/* The value of "url"; the caller frees it. The host has checked the schema by then, so this reads only what it allows. */
static char *url_of(camp_str json) {
  const char *stop = json.ptr + json.len, *at = find(json, "\"url\""), *last;
  char *url;
  if (at == NULL) return NULL;
  for (at += 5; at < stop && (*at == ' ' || *at == ':'); at++) {
  }
  if (at >= stop || *at++ != '"') return NULL;
  last = (const char *)memchr(at, '"', (size_t)(stop - at));
  if (last == NULL || last == at || memchr(at, '\\', (size_t)(last - at)) != NULL) return NULL;
  url = (char *)calloc((size_t)(last - at) + 1, 1);
  if (url != NULL) memcpy(url, at, (size_t)(last - at));
  return url;
}

static void validate(camp_str config, const camp_sink *problems) {
  char *url = url_of(config);
  if (url == NULL || (strncmp(url, "https://", 8) != 0 && strncmp(url, "http://", 7) != 0))
    problems->write(problems->ctx, TEXT("[{\"pointer\":\"/url\",\"message\":\"must begin with https:// or http://\"}]"));
  free(url);
}

static int32_t start(const camp_host *host, camp_str config, uint64_t token, void **out) {
  instance *self = (instance *)calloc(1, sizeof *self);
  if (self == NULL) return -1;
  self->host = host;
  self->url = url_of(config);
  if (self->url == NULL || host->size < offsetof(camp_host, http) + sizeof host->http || host->http == NULL) {
    end(host, token, CAMP_MISCONFIGURED, CAMP_UNSET, TEXT("config"), TEXT("no url, or a host that makes no requests"));
    free(self->url);
    free(self);
    return -1;
  }
  *out = self;
  end(host, token, CAMP_OK, CAMP_UNSET, TEXT(""), TEXT(""));
  return 0;
}

/* Milliseconds of a Retry-After in seconds. */
static uint64_t retry_after(camp_str headers) {
  const char *stop = headers.ptr + headers.len, *at = find(headers, "\"retry-after\":\"");
  uint64_t seconds = 0;
  if (at == NULL) return CAMP_UNSET;
  for (at += 15; at < stop && *at >= '0' && *at <= '9' && seconds < 1000000; at++)
    seconds = seconds * 10 + (uint64_t)(*at - '0');
  return at < stop && *at == '"' ? seconds * 1000 : CAMP_UNSET;
}

/* Called once for each request, whatever became of it. */
static void answered(void *user, const camp_http_response *r) {
  job *self = (job *)user;
  char code[32];
  camp_str name = text_of(code, (size_t)snprintf(code, sizeof code, "http_%u", (unsigned)r->status));
  uint32_t status = CAMP_PERMANENT;
  uint64_t after = CAMP_UNSET;
  if (r->status == 0) {
    const int refused = r->error.len >= 7 && memcmp(r->error.ptr, "refused", 7) == 0;
    end(self->host, self->token, refused ? CAMP_PERMANENT : CAMP_RETRY, CAMP_UNSET, TEXT("no_answer"), r->error);
    free(self);
    return;
  }
  if (r->status >= 200 && r->status < 300) status = CAMP_OK;
  if (r->status == 429) status = CAMP_THROTTLED, after = retry_after(r->headers_json);
  if (r->status == 410) status = CAMP_RECIPIENT_GONE;
  if (r->status == 401 || r->status == 403) status = CAMP_MISCONFIGURED;
  if (r->status == 408 || r->status >= 500) status = CAMP_RETRY, after = retry_after(r->headers_json);
  end(self->host, self->token, status, after, status == CAMP_OK ? TEXT("") : name, TEXT(""));
  free(self);
}

static void deliver_one(instance *self, const camp_delivery *d) {
  const camp_host *host = self->host;
  camp_http_request request;
  char headers[256];
  job *under_way = (job *)calloc(1, sizeof *under_way);
  if (under_way == NULL) {
    end(host, d->token, CAMP_RETRY, CAMP_UNSET, TEXT("memory"), TEXT("there is no memory left"));
    return;
  }
  under_way->host = host;
  under_way->token = d->token;
  /* The key is the host's own: letters, digits and dashes, so it needs no escaping. */
  snprintf(headers, sizeof headers, "{\"content-type\":\"application/json\",\"idempotency-key\":\"%.*s\"}",
           (int)(d->idempotency_key.len < 128 ? d->idempotency_key.len : 128), d->idempotency_key.ptr);
  memset(&request, 0, sizeof request);
  request.size = sizeof request;
  request.token = d->token;
  request.timeout_ms = CAMP_UNSET;
  request.method = TEXT("POST");
  request.url = text_of(self->url, strlen(self->url));
  request.headers_json = text_of(headers, strlen(headers));
  request.body = d->message_json;
  if (host->http(host->ctx, &request, answered, under_way) != 0) {
    free(under_way); /* refused: there is no callback */
    end(host, d->token, CAMP_RETRY, CAMP_UNSET, TEXT("not_taken"), TEXT("the host took no request"));
  }
}

static void deliver(void *raw, const camp_delivery *const *items, size_t n) {
  size_t i;
  for (i = 0; i < n; i++) deliver_one((instance *)raw, items[i]);
}

static void destroy(void *raw) {
  instance *self = (instance *)raw;
  free(self->url);
  free(self);
}

/* In the order of campanile_plugin.h, so that it is C++ too. Flags: nothing here blocks. */
static const camp_plugin table = {
    sizeof(camp_plugin), CAMP_ABI_MINOR, 0, 0, describe, start, deliver, destroy, validate, NULL, NULL, NULL,
};

const camp_plugin *campanile_plugin_v1(void) { return &table; }
