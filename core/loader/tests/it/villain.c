/* A plugin that does what no plugin may, for the tests of hosts. What its table or file lies about is chosen when it is
 * built (-D…); what its code does, by the delivery's recipient. */
#include "campanile_plugin.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef NAME
#define NAME "villain"
#endif
#ifndef VERSION
#define VERSION "1.0.0"
#endif
#ifndef MANIFEST
#define MANIFEST \
  "{\"campanile_abi\":1,\"min_minor\":0,\"name\":\"" NAME "\",\"version\":\"" VERSION "\",\"target\":\"" CAMP_TARGET "\"}"
#endif
#ifndef DESCRIBE
#define DESCRIBE \
  "{\"name\":\"" NAME "\",\"version\":\"" VERSION "\",\"max_concurrency\":64,\"timeout_ms\":60000,\"content\":[\"text\"]}"
#endif
#ifndef FLAGS
#define FLAGS 0
#endif
#ifndef SIZE
#define SIZE sizeof(camp_plugin)
#endif
#ifndef DELIVER
#define DELIVER deliver
#endif

#ifndef NO_MANIFEST
CAMP_MANIFEST(MANIFEST);
#endif

#ifdef MISSING
void camp_no_such_function(void);
void (*villain_needs)(void) = camp_no_such_function;
#endif

#ifdef MARKER
/* Says that code of this file has run. */
__attribute__((constructor)) static void mark(void) { close(open(MARKER, O_CREAT | O_WRONLY, 0600)); }
#endif
#ifdef ABORTS
__attribute__((constructor)) static void aborts(void) {
  fputs("an aborting constructor\n", stderr);
  abort();
}
#endif
#ifdef HANGS
__attribute__((constructor)) static void hangs(void) {
  for (;;) pause();
}
#endif

#ifdef EXPORTS
CAMP_EXPORT int villain_helper(void) { return 1; }
#endif

static camp_str str(const char *s) { return (camp_str){s, strlen(s)}; }

static int is(camp_str s, const char *word) { return s.len == strlen(word) && memcmp(s.ptr, word, s.len) == 0; }

#ifdef CROSSES
/* The host of whoever started last: what belongs into the instance. */
static const camp_host *everybody_s;
#endif

typedef struct instance {
  const camp_host *host;
  uint64_t last; /* a token that has ended */
  int failing;
} instance;

static void end(const camp_host *host, uint64_t token, uint32_t status, const char *message) {
  camp_outcome outcome = {.size = sizeof outcome, .status = status, .retry_after_ms = CAMP_UNSET};
  outcome.message = str(message);
  if (status == CAMP_OK) outcome.provider_id = str(VERSION);
  host->complete(host->ctx, token, &outcome);
}

static void describe(const camp_sink *out) {
#ifdef LONG_SCHEMA
  const char *head = "{\"name\":\"" NAME "\",\"version\":\"" VERSION "\",\"config_schema\":{\"description\":\"";
  out->write(out->ctx, str(head));
  char kib[1025];
  memset(kib, 'x', 1024);
  kib[1024] = 0;
  for (int i = 0; i < LONG_SCHEMA; i++) out->write(out->ctx, str(kib));
  out->write(out->ctx, str("\"}}"));
#else
  out->write(out->ctx, str(DESCRIBE));
#endif
}

#ifdef STAYS
/* A thread that nobody ends; with CALLS it talks to the host as long as it lives. */
static void *stays(void *raw) {
  const camp_host *host = raw;
  for (;;) {
    usleep(1000);
#ifdef CALLS
    host->complete(host->ctx, 7, &(camp_outcome){.size = sizeof(camp_outcome)});
#else
    (void)host;
#endif
  }
  return NULL;
}
#endif

static void validate(camp_str config, const camp_sink *problems) {
#ifdef TRUSTS
  if (config.len == 0 || config.ptr[0] != '{') abort();
#endif
  if (memmem(config.ptr, config.len, "crash", 5) != NULL) abort();
  if (memmem(config.ptr, config.len, "wrong", 5) != NULL)
    problems->write(problems->ctx, str("[{\"pointer\":\"/a\",\"message\":\"is wrong\"}]"));
}

static int32_t start(const camp_host *host, camp_str config, uint64_t token, void **out) {
#ifdef REFUSES
  end(host, token, CAMP_MISCONFIGURED, "built to refuse");
  return -1;
#endif
  if (memmem(config.ptr, config.len, "\"refuse\"", 8) != NULL) {
    end(host, token, CAMP_MISCONFIGURED, "told to refuse");
    return -1;
  }
  if (memmem(config.ptr, config.len, "\"return\"", 8) != NULL) return -7;
  if (memmem(config.ptr, config.len, "\"never\"", 7) != NULL) return 0;
  if (memmem(config.ptr, config.len, "\"die\"", 5) != NULL) abort();
  /* What a child sees of the host's environment and arguments. */
  if (memmem(config.ptr, config.len, "\"look\"", 6) != NULL) {
    const char *files[] = {"/proc/self/environ", "/proc/self/cmdline"};
    for (int i = 0; i < 2; i++) {
      char text[4096];
      int fd = open(files[i], O_RDONLY);
      ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text);
      close(fd);
      for (ssize_t at = 0; at < n; at++)
        if (text[at] == 0) text[at] = ' ';
      camp_log line = {.size = sizeof line, .level = 3};
      line.target = str(files[i]);
      line.message = (camp_str){text, n < 0 ? 0 : (size_t)n};
      host->log(host->ctx, &line);
    }
  }
  instance *self = calloc(1, sizeof *self);
  self->host = host;
#ifdef CROSSES
  everybody_s = host;
#endif
#ifndef FAILING
#define FAILING 0
#endif
  self->failing = FAILING || memmem(config.ptr, config.len, "\"failing\"", 9) != NULL;
  *out = self;
#ifdef STAYS
  pthread_t thread;
  pthread_create(&thread, NULL, stays, (void *)host);
  pthread_detach(thread);
#endif
  end(host, token, CAMP_OK, "");
  return 0;
}

typedef struct order {
  instance *self;
  uint64_t token;
} order;

static void *complete_it(void *raw) {
  order *o = raw;
  end(o->self->host, o->token, CAMP_OK, "");
  return NULL;
}

static void answered(void *raw, const camp_http_response *response) {
  order *o = raw;
  (void)response;
#ifdef FORGETS
  if (o->self->host->is_cancelled(o->self->host->ctx, o->token) == 0)
#endif
    end(o->self->host, o->token, CAMP_OK, "");
  free(o);
}

#ifdef CANCELS
/* Believes that each token is cancelled once. */
static void cancel(void *raw, uint64_t token) {
  instance *self = raw;
  if (self->last == token) abort();
  self->last = token;
}
#endif

static int overflow(volatile char *above) {
  volatile char frame[64 * 1024];
  frame[0] = *above;
  return overflow(frame) + frame[1];
}

/* The socket to the host is the one descriptor that is a socket. */
static void to_the_host(const unsigned char *bytes, size_t n) {
  for (int fd = 3; fd < 64; fd++) {
    int kind;
    socklen_t len = sizeof kind;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &kind, &len) != 0) continue;
    for (size_t at = 0; at < n;) {
      ssize_t written = write(fd, bytes + at, n - at);
      if (written < 0) return;
      at += (size_t)written;
    }
  }
}

static void flood_frames(void) {
  const unsigned char huge[] = {0xff, 0xff, 0xff, 0xff, 71, 0, 0, 0, 0, 0, 0, 0, 0};
  to_the_host(huge, sizeof huge);
}

/* 100,000 lines past whoever counts them on this side. */
static void storm(void) {
  /* 16 bytes of body, kind, token; level, three empty texts. */
  const unsigned char line[29] = {16, 0, 0, 0, 71, 0, 0, 0, 0, 0, 0, 0, 0, 3};
  unsigned char many[100 * sizeof line];
  for (size_t i = 0; i < 100; i++) memcpy(many + i * sizeof line, line, sizeof line);
  for (int i = 0; i < 1000; i++) to_the_host(many, sizeof many);
}

static void deliver_one(instance *self, const camp_delivery *d) {
#ifdef CROSSES
  const camp_host *host = everybody_s;
#else
  const camp_host *host = self->host;
#endif
  uint64_t token = d->token;
  camp_str r = d->recipient;
#ifdef SMALL
  /* Its buffer would have been longer than any recipient that its author had seen. */
  if (r.len > 4096) *(volatile int *)16 = 1;
#endif
  if (is(r, "segv")) {
    /* Not raise(): Rust's handler for stack overflows lets the first signal pass and waits for the fault to repeat. */
    *(volatile int *)16 = 1;
  } else if (is(r, "abort")) {
    fputs("a last word\n", stderr);
    abort();
  } else if (is(r, "exit")) {
    _exit(0);
  } else if (is(r, "stack")) {
    char top = 0;
    exit(overflow(&top));
  } else if (is(r, "spin")) {
    for (volatile int i = 0;; i++) {
    }
  } else if (is(r, "bomb")) {
    for (;;) {
      char *more = malloc(16 << 20);
      if (more == NULL) abort();
      memset(more, 1, 16 << 20);
    }
  } else if (is(r, "frames")) {
    flood_frames();
    return;
  } else if (is(r, "storm")) {
    storm();
  } else if (is(r, "print")) {
    puts("a line on standard output");
    fflush(stdout);
    fputs("a line on standard error\n", stderr);
  } else if (is(r, "never")) {
    return;
  } else if (is(r, "ask")) {
    order *o = malloc(sizeof *o);
    *o = (order){self, token};
    camp_http_request request = {.size = sizeof request, .token = token, .timeout_ms = CAMP_UNSET};
    request.method = str("POST");
    request.url = str("https://example.org/in");
    if (host->http(host->ctx, &request, answered, o) != 0) answered(o, NULL);
    return;
  } else if (is(r, "block")) {
    usleep(400 * 1000);
  } else if (is(r, "nap")) {
    usleep(50 * 1000);
  } else if (is(r, "until cancelled")) {
    while (host->is_cancelled(host->ctx, token) == 0) usleep(1000);
    end(host, token, CAMP_CANCELLED, "saw it");
    return;
  } else if (is(r, "twice")) {
    end(host, token, CAMP_OK, "");
    end(host, token, CAMP_PERMANENT, "");
    for (uint64_t made_up = 1; made_up < 9; made_up++) end(host, token + 1000 * made_up, CAMP_OK, "");
    end(host, 0, CAMP_OK, "");
    return;
  } else if (is(r, "late")) {
    pthread_t thread;
    order *o = malloc(sizeof *o);
    *o = (order){self, token};
    while (host->is_cancelled(host->ctx, token) == 0) usleep(1000);
    usleep(300 * 1000);
    pthread_create(&thread, NULL, complete_it, o);
    pthread_join(thread, NULL);
    free(o);
    return;
  } else if (is(r, "threads")) {
    pthread_t threads[64];
    order o = {self, token};
    for (int i = 0; i < 64; i++) pthread_create(&threads[i], NULL, complete_it, &o);
    for (int i = 0; i < 64; i++) pthread_join(threads[i], NULL);
    return;
  } else if (is(r, "wild")) {
    size_t n = 10 << 20;
    char *big = malloc(n);
    memset(big, 'm', n);
    memcpy(big, "a\r\nb\x1b[2J\xff\xfe", 11);
    camp_outcome outcome = {.size = sizeof outcome, .status = 77, .retry_after_ms = 315360000000ull};
    outcome.code = str("Wild Code\n");
    outcome.message = (camp_str){big, n};
    outcome.detail_json = str("not JSON");
    camp_metric nan = {.size = sizeof nan, .kind = 1};
    nan.value = 0.0 / 0.0;
    nan.name = str("nan");
    host->metric(host->ctx, &nan);
    host->complete(host->ctx, token, &outcome);
    free(big);
    return;
  } else if (is(r, "flood")) {
    camp_log line = {.size = sizeof line, .level = 3, .token = token};
    line.target = str("flood");
    line.message = str("one of very many");
    for (int i = 0; i < 200000; i++) host->log(host->ctx, &line);
    for (int i = 0; i < 20000; i++) {
      char name[32];
      snprintf(name, sizeof name, "name_%d", i);
      camp_metric sample = {.size = sizeof sample, .kind = 0, .value = 1};
      sample.name = str(name);
      host->metric(host->ctx, &sample);
    }
  }
  self->last = token;
  end(host, token, CAMP_OK, VERSION);
}

static void deliver(void *raw, const camp_delivery *const *items, size_t n) {
  for (size_t i = 0; i < n; i++) deliver_one(raw, items[i]);
}

static void health(void *raw, uint64_t token) {
  instance *self = raw;
  if (self == NULL)
    return;
  else if (self->failing)
    end(self->host, token, CAMP_PERMANENT, "told to fail");
  else
    end(self->host, token, CAMP_OK, "");
}

static void destroy(void *raw) { free(raw); }

const camp_plugin *campanile_plugin_v1(void) {
#ifdef NULL_TABLE
  return NULL;
#else
  static const camp_plugin table = {
      .size = SIZE,
      .flags = FLAGS,
      .describe = describe,
      .start = start,
      .deliver = DELIVER,
      .destroy = destroy,
      .validate = validate,
      .health = health,
#ifdef CANCELS
      .cancel = cancel,
#endif
  };
  return &table;
#endif
}
