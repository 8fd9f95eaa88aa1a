// A plugin that breaks the rules, for the tests of hosts.
#include "campanile_plugin.h"

CAMP_PLUGIN("liar", "0.1.0");

namespace {

const camp_host *host_of(void *instance) { return static_cast<const camp_host *>(instance); }

camp_str text(const char *s) {
  size_t n = 0;
  while (s[n] != 0) n++;
  return camp_str{s, n};
}

void describe(const camp_sink *out) { out->write(out->ctx, text("{\"name\":\"liar\",\"version\":\"0.1.0\"}")); }

void end(const camp_host *host, uint64_t token, uint32_t status) {
  camp_outcome outcome = {};
  outcome.size = sizeof outcome;
  outcome.status = status;
  outcome.retry_after_ms = CAMP_UNSET;
  outcome.code = text("far_future");
  outcome.detail_json = text("not JSON at all");
  host->complete(host->ctx, token, &outcome);
}

int32_t start(const camp_host *host, camp_str, uint64_t token, void **instance) {
  *instance = const_cast<camp_host *>(host);
  end(host, token, CAMP_OK);
  return 0;
}

void deliver(void *instance, const camp_delivery *const *items, size_t n) {
  const camp_host *host = host_of(instance);
  camp_log line = {};
  line.size = sizeof line;
  line.level = 99;
  line.target = text("liar");
  line.message = text("\xff\xfe not UTF-8");
  host->log(host->ctx, &line);
  camp_metric sample = {};
  sample.size = sizeof sample;
  sample.kind = 99;
  sample.name = text("lies");
  host->metric(host->ctx, &sample);
  for (size_t i = 0; i < n; i++) {
    end(host, items[i]->token, 77);
    end(host, items[i]->token, CAMP_OK);
    end(host, 12345, CAMP_OK);
    camp_outcome tiny = {};
    tiny.size = 4;
    host->complete(host->ctx, 54321, &tiny);
  }
}

void destroy(void *) {}

const camp_plugin table = {sizeof table, 0,       1u << 3, 0,       describe, start, deliver,
                           destroy,      nullptr, nullptr, nullptr, nullptr};

}  // namespace

const camp_plugin *campanile_plugin_v1(void) { return &table; }
