/* A channel that keeps every delivery until the file at "gate" is there, and then writes it into the file at "ledger" and
 * ends it: what is under way when something happens to it, is what the test says. */
#include "campanile_plugin.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef VERSION
#define VERSION "1.0.0"
#endif
#define MOST 4096

CAMP_PLUGIN("gate", VERSION);

typedef struct held {
  uint64_t token;
  char id[64];
} held;

typedef struct instance {
  const camp_host *host;
  char *gate, *ledger;
  pthread_t porter;
  pthread_mutex_t lock;
  int over;
  size_t n;
  held all[MOST];
} instance;

static camp_str str(const char *s) { return (camp_str){s, strlen(s)}; }

static void end(const camp_host *host, uint64_t token, uint32_t status) {
  camp_outcome outcome = {.size = sizeof outcome, .status = status, .retry_after_ms = CAMP_UNSET};
  outcome.provider_id = str(VERSION);
  host->complete(host->ctx, token, &outcome);
}

static void describe(const camp_sink *out) {
  out->write(out->ctx, str("{\"name\":\"gate\",\"version\":\"" VERSION "\",\"max_concurrency\":1000,"
                           "\"timeout_ms\":300000,\"content\":[\"text\"]}"));
}

static char *value_of(camp_str json, const char *key) {
  const char *at = memmem(json.ptr, json.len, key, strlen(key));
  if (at == NULL) return NULL;
  at += strlen(key);
  const char *last = memchr(at, '"', (size_t)(json.ptr + json.len - at));
  return last == NULL ? NULL : strndup(at, (size_t)(last - at));
}

static void *porter(void *raw) {
  instance *self = raw;
  for (;;) {
    pthread_mutex_lock(&self->lock);
    int over = self->over;
    size_t n = 0;
    held *go = NULL;
    if (self->n > 0 && access(self->gate, F_OK) == 0) {
      n = self->n;
      go = malloc(n * sizeof *go);
      memcpy(go, self->all, n * sizeof *go);
      self->n = 0;
    }
    pthread_mutex_unlock(&self->lock);
    if (n > 0) {
      FILE *ledger = fopen(self->ledger, "a");
      for (size_t i = 0; i < n; i++) fprintf(ledger, "%s %s\n", VERSION, go[i].id);
      fclose(ledger);
      for (size_t i = 0; i < n; i++) end(self->host, go[i].token, CAMP_OK);
      free(go);
    }
    if (over) return NULL;
    usleep(5000);
  }
}

static int32_t start(const camp_host *host, camp_str config, uint64_t token, void **out) {
  instance *self = calloc(1, sizeof *self);
  self->host = host;
  self->gate = value_of(config, "\"gate\":\"");
  self->ledger = value_of(config, "\"ledger\":\"");
  if (self->gate == NULL || self->ledger == NULL) {
    end(host, token, CAMP_MISCONFIGURED);
    return -1;
  }
  pthread_mutex_init(&self->lock, NULL);
  pthread_create(&self->porter, NULL, porter, self);
  *out = self;
  end(host, token, CAMP_OK);
  return 0;
}

static void deliver(void *raw, const camp_delivery *const *items, size_t n) {
  instance *self = raw;
  for (size_t i = 0; i < n; i++) {
    pthread_mutex_lock(&self->lock);
    int full = self->n == MOST;
    if (!full) {
      held *h = &self->all[self->n++];
      h->token = items[i]->token;
      snprintf(h->id, sizeof h->id, "%.*s", (int)items[i]->delivery_id.len, items[i]->delivery_id.ptr);
    }
    pthread_mutex_unlock(&self->lock);
    if (full) end(self->host, items[i]->token, CAMP_RETRY);
  }
}

/* What is cancelled is not sent. */
static void cancel(void *raw, uint64_t token) {
  instance *self = raw;
  int found = 0;
  pthread_mutex_lock(&self->lock);
  for (size_t i = 0; i < self->n && !found; i++)
    if (self->all[i].token == token) {
      self->all[i] = self->all[--self->n];
      found = 1;
    }
  pthread_mutex_unlock(&self->lock);
  if (found) end(self->host, token, CAMP_CANCELLED);
}

static void destroy(void *raw) {
  instance *self = raw;
  pthread_mutex_lock(&self->lock);
  self->over = 1;
  pthread_mutex_unlock(&self->lock);
  pthread_join(self->porter, NULL);
  pthread_mutex_destroy(&self->lock);
  free(self->gate);
  free(self->ledger);
  free(self);
}

const camp_plugin *campanile_plugin_v1(void) {
  static const camp_plugin table = {
      .size = sizeof table,
      .abi_minor = CAMP_ABI_MINOR,
      .describe = describe,
      .start = start,
      .deliver = deliver,
      .destroy = destroy,
      .cancel = cancel,
  };
  return &table;
}
