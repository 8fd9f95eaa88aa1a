/* A channel in C: appends each message to a file. Written from campanile_plugin.h alone.
 *
 * Its configuration is {"path": "/var/log/notifications.txt"}. deliver() writes and waits for the disk, so it sets
 * CAMP_F_BLOCKING: the host then calls it on threads of its own, and this file needs none. */
#include "campanile_plugin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEXT(literal) ((camp_str){(literal), sizeof(literal) - 1})

CAMP_PLUGIN("c_file", "1.0.0");

typedef struct instance {
  const camp_host *host; /* belongs to the instance, never to a global */
  char *path;
} instance;

static camp_str text_of(const char *s) { return (camp_str){s, strlen(s)}; }

static void end(const camp_host *host, uint64_t token, uint32_t status, camp_str code, camp_str message) {
  camp_outcome outcome = {.size = sizeof outcome, .status = status, .retry_after_ms = CAMP_UNSET};
  outcome.code = code;
  outcome.message = message;
  host->complete(host->ctx, token, &outcome);
}

static void describe(const camp_sink *out) {
  out->write(out->ctx, TEXT("{\"name\":\"c_file\",\"version\":\"1.0.0\",\"display_name\":\"File\","
                            "\"description\":\"Appends each message to a file.\",\"recipient\":{\"format\":\"text\"},"
                            "\"max_concurrency\":4,\"content\":[\"text\"],\"config_schema\":{\"type\":\"object\","
                            "\"properties\":{\"path\":{\"type\":\"string\",\"description\":\"File to append to.\"}},"
                            "\"required\":[\"path\"],\"additionalProperties\":false}}"));
}

/* The value of "path"; the caller frees it. The schema has been checked by then, so this reads only what it allows. */
static char *path_of(camp_str json) {
  const char *key = "\"path\"", *at = json.ptr, *stop = json.ptr + json.len;
  const size_t n = strlen(key);
  while ((size_t)(stop - at) > n && memcmp(at, key, n) != 0) at++;
  if ((size_t)(stop - at) <= n) return NULL;
  for (at += n; at < stop && (*at == ' ' || *at == ':'); at++) {
  }
  if (at >= stop || *at++ != '"') return NULL;
  const char *last = memchr(at, '"', (size_t)(stop - at));
  if (last == NULL || last == at || memchr(at, '\\', (size_t)(last - at)) != NULL) return NULL;
  char *path = calloc((size_t)(last - at) + 1, 1);
  return path == NULL ? NULL : memcpy(path, at, (size_t)(last - at));
}

static void validate(camp_str config, const camp_sink *problems) {
  char *path = path_of(config);
  if (path == NULL || path[0] != '/')
    problems->write(problems->ctx, TEXT("[{\"pointer\":\"/path\",\"message\":\"must be an absolute path\"}]"));
  free(path);
}

static int32_t start(const camp_host *host, camp_str config, uint64_t token, void **out) {
  instance *self = calloc(1, sizeof *self);
  if (self == NULL) return -1;
  self->host = host;
  self->path = path_of(config);
  FILE *file = self->path == NULL ? NULL : fopen(self->path, "a");
  if (file == NULL) {
    end(host, token, CAMP_MISCONFIGURED, TEXT("open"), TEXT("the file at \"path\" can't be opened for writing"));
    free(self->path);
    free(self);
    return -1;
  }
  fclose(file);
  *out = self;
  end(host, token, CAMP_OK, TEXT(""), TEXT(""));
  return 0;
}

/* A function that a host may lack is looked for first within the table's size, then for not being NULL. */
static int is_cancelled(const camp_host *host, uint64_t token) {
  const int there = host->size >= offsetof(camp_host, is_cancelled) + sizeof host->is_cancelled && host->is_cancelled != NULL;
  return there && host->is_cancelled(host->ctx, token) != 0;
}

static void deliver_one(instance *self, const camp_delivery *d) {
  const camp_host *host = self->host;
  /* The last chance to stop: from here on the message is in the file. */
  if (is_cancelled(host, d->token)) {
    end(host, d->token, CAMP_CANCELLED, TEXT("cancelled"), TEXT("nothing was written"));
    return;
  }
  FILE *file = fopen(self->path, "a");
  int written = -1;
  if (file != NULL) {
    /* One call, one line: other threads append as well. */
    written = fprintf(file, "%.*s: %.*s\n", (int)d->recipient.len, d->recipient.ptr, (int)d->text.len, d->text.ptr);
    if (fflush(file) != 0 || fsync(fileno(file)) != 0) written = -1;
    if (fclose(file) != 0) written = -1;
  }
  if (written < 0) {
    end(host, d->token, CAMP_RETRY, TEXT("write"), TEXT("the file can't be written"));
    return;
  }
  char id[32];
  snprintf(id, sizeof id, "%d", written);
  camp_outcome outcome = {.size = sizeof outcome, .status = CAMP_OK, .retry_after_ms = CAMP_UNSET};
  outcome.provider_id = text_of(id);
  host->complete(host->ctx, d->token, &outcome);
}

static void deliver(void *raw, const camp_delivery *const *items, size_t n) {
  for (size_t i = 0; i < n; i++) deliver_one(raw, items[i]);
}

static void health(void *raw, uint64_t token) {
  instance *self = raw;
  if (access(self->path, W_OK) == 0)
    end(self->host, token, CAMP_OK, TEXT(""), TEXT(""));
  else
    end(self->host, token, CAMP_PERMANENT, TEXT("access"), TEXT("the file can't be written any more"));
}

static void destroy(void *raw) {
  instance *self = raw;
  free(self->path);
  free(self);
}

const camp_plugin *campanile_plugin_v1(void) {
  static const camp_plugin table = {
      .size = sizeof table,
      .abi_minor = CAMP_ABI_MINOR,
      .flags = CAMP_F_BLOCKING,
      .describe = describe,
      .start = start,
      .deliver = deliver,
      .destroy = destroy,
      .validate = validate,
      .health = health,
  };
  return &table;
}
