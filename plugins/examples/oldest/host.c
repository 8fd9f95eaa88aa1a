/* The oldest host there may be: interface 1.0 by raw declarations, in C89, without the header. A plugin that today's SDK
 * makes and that this host can't run has broken the promise. cc -std=c89 -pthread host.c -ldl; never to be changed.
 *
 *   host PLUGIN CONFIG RECIPIENT [STATUS]
 *
 * Takes the plugin through one life, twice: with the shortest table that a host may hand over, and with all of 1.0's, every
 * function NULL that may be. It describes, starts, delivers one message, stops and destroys; each token must end once. Tables and
 * deliveries end where their page of memory ends, so that who reads past their size dies of it. STATUS is how the delivery is to
 * end; without it as sent. Prints what the delivery ended with, exits with 0 if all was well. */
#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

typedef unsigned int u32;
typedef unsigned long u64;
typedef struct text { const char *ptr; size_t len; } text;
typedef struct sink { void *ctx; void (*write)(void *ctx, text chunk); } sink;
typedef struct outcome { u32 size, status; u64 retry_after_ms; text code, message, provider_id, detail_json; } outcome;
typedef struct delivery {
  u32 size, attempt;
  u64 token, timeout_ms;
  text delivery_id, idempotency_key, recipient, subject, body, html, message_json, traceparent;
} delivery;
typedef struct shortest { u32 size, abi_minor; void *ctx; void (*complete)(void *ctx, u64 token, const outcome *); } shortest;
typedef struct whole { shortest least; void (*none[6])(void); } whole;
typedef struct plugin {
  u32 size, abi_minor, flags, reserved;
  void (*describe)(const sink *);
  int (*start)(const void *host, text config, u64 token, void **instance);
  void (*deliver)(void *instance, const delivery *const *items, size_t n);
  void (*destroy)(void *instance);
  void (*validate)(text config, const sink *);
  void (*cancel)(void *instance, u64 token);
  void (*health)(void *instance, u64 token);
  void (*stop)(void *instance, u64 token, u64 timeout_ms);
} plugin;

enum { START = 1001, DELIVER, HEALTH, STOP, LAST };

/* What `ctx` leads to. */
typedef struct board {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  u32 ends[LAST], status[LAST];
  u32 strangers, over;
} board;

static int fail(const char *why, const char *more) {
  fprintf(stderr, "%s%s\n", why, more);
  exit(1);
  return 0;
}

static void complete(void *ctx, u64 token, const outcome *ended) {
  board *b = ctx;
  pthread_mutex_lock(&b->lock);
  if (b->over || token < START || token >= LAST || ended->size < 8) {
    b->strangers++;
  } else {
    if (b->ends[token]++ == 0) b->status[token] = ended->status;
    if (token == DELIVER && b->ends[token] == 1 && ended->status != 0 && ended->size >= offsetof(outcome, provider_id))
      printf("%.*s %.*s\n", (int)ended->code.len, ended->code.ptr, (int)ended->message.len, ended->message.ptr);
  }
  pthread_cond_broadcast(&b->changed);
  pthread_mutex_unlock(&b->lock);
}

/* How it ended; waits for that, and not for ever. */
static u32 ended(board *b, u64 token, const char *what) {
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += 20;
  pthread_mutex_lock(&b->lock);
  while (b->ends[token] == 0)
    if (pthread_cond_timedwait(&b->changed, &b->lock, &until) != 0) fail(what, " did not end within 20 s");
  pthread_mutex_unlock(&b->lock);
  return b->status[token];
}

/* A copy whose end is the end of what may be read. */
static const void *at_the_edge(const void *from, size_t n) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  char *room = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (room == MAP_FAILED || mprotect(room + page, page, PROT_NONE) != 0) fail("no memory", "");
  return memcpy(room + page - n, from, n);
}

static text of(const char *s) {
  text made;
  made.ptr = s;
  made.len = strlen(s);
  return made;
}

static void gather(void *ctx, text chunk) {
  char *said = ctx;
  size_t n = strlen(said);
  if (n + chunk.len < 65536) memcpy(said + n, chunk.ptr, chunk.len);
}

static void life(const plugin *table, const char *config, const char *to, u32 expected, size_t size) {
  board *b = calloc(1, sizeof *b);
  whole host;
  delivery one;
  const delivery *items[1];
  void *instance = NULL;
  pthread_mutex_init(&b->lock, NULL);
  pthread_cond_init(&b->changed, NULL);
  memset(&host, 0, sizeof host);
  host.least.size = (u32)size;
  host.least.ctx = b;
  host.least.complete = complete;
  if (table->start(at_the_edge(&host, size), of(config), START, &instance) != 0) fail("start() refused", "");
  if (ended(b, START, "start()") != 0) fail("it did not start", "");

  memset(&one, 0, sizeof one);
  one.size = sizeof one;
  one.attempt = 1;
  one.token = DELIVER;
  one.timeout_ms = 10000;
  one.delivery_id = one.idempotency_key = of("d-1");
  one.recipient = of(to);
  one.subject = of("Doors open");
  one.body = of("At nine.");
  one.html = of("<p>At nine.</p>");
  one.message_json = of("{\"title\":\"Doors open\"}");
  items[0] = at_the_edge(&one, sizeof one);
  table->deliver(instance, items, 1);
  if (ended(b, DELIVER, "the delivery") != expected) fail("the delivery ended otherwise than it should", "");

  if (table->size >= offsetof(plugin, health) + sizeof table->health && table->health != NULL) {
    table->health(instance, HEALTH);
    ended(b, HEALTH, "health()");
  }
  if (table->size >= sizeof *table && table->stop != NULL) {
    table->stop(instance, STOP, 5000);
    if (ended(b, STOP, "stop()") != 0) fail("it did not stop well", "");
  }
  table->destroy(instance);
  pthread_mutex_lock(&b->lock);
  b->over = 1;
  pthread_mutex_unlock(&b->lock);
  /* Whoever still calls has a moment to show itself; the board is never freed. */
  usleep(20000);
  pthread_mutex_lock(&b->lock);
  if (b->strangers != 0) fail("it called with no token of ours, or after destroy()", "");
  if (b->ends[START] != 1 || b->ends[DELIVER] != 1 || b->ends[STOP] > 1) fail("a token ended more than once", "");
  pthread_mutex_unlock(&b->lock);
}

int main(int argc, char **argv) {
  static char said[65536];
  void *library, *entry;
  const plugin *(*get)(void);
  const plugin *table;
  sink out;
  u32 expected;
  if (argc < 4) fail("usage: host PLUGIN CONFIG RECIPIENT [STATUS]", "");
  expected = argc > 4 ? (u32)atoi(argv[4]) : 0;
  library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) fail("it does not open: ", dlerror());
  entry = dlsym(library, "campanile_plugin_v1");
  if (entry == NULL) fail("it has no entry: ", dlerror());
  memcpy(&get, &entry, sizeof get);
  table = get();
  if (table == NULL || table->size < offsetof(plugin, validate)) fail("its table is too short", "");
  if ((table->flags & 0xffff0000u) != 0) fail("it sets flags that this host doesn't know and must not ignore", "");
  out.ctx = said;
  out.write = gather;
  table->describe(&out);
  if (strstr(said, "\"name\"") == NULL || strstr(said, "\"version\"") == NULL) fail("it says nothing of itself: ", said);
  life(table, argv[2], argv[3], expected, sizeof(shortest));
  life(table, argv[2], argv[3], expected, sizeof(whole));
  return 0;
}
