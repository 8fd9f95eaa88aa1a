// A plugin in C++ that lets an exception leave deliver(), as none may: nobody above it can catch one.
#include "campanile_plugin.h"

#include <cstring>
#include <stdexcept>

CAMP_PLUGIN("thrower", "1.0.0");

static void describe(const camp_sink *out) {
  const char *text = "{\"name\":\"thrower\",\"version\":\"1.0.0\"}";
  out->write(out->ctx, camp_str{text, std::strlen(text)});
}

static int32_t start(const camp_host *host, camp_str, uint64_t token, void **instance) {
  camp_outcome outcome{};
  outcome.size = sizeof outcome;
  outcome.retry_after_ms = CAMP_UNSET;
  *instance = const_cast<camp_host *>(host);
  host->complete(host->ctx, token, &outcome);
  return 0;
}

static void deliver(void *, const camp_delivery *const *, size_t) { throw std::runtime_error("nobody catches me"); }

static void destroy(void *) {}

const camp_plugin *campanile_plugin_v1(void) {
  static const camp_plugin table = [] {
    camp_plugin made{};
    made.size = sizeof made;
    made.abi_minor = CAMP_ABI_MINOR;
    made.describe = describe;
    made.start = start;
    made.deliver = deliver;
    made.destroy = destroy;
    return made;
  }();
  return &table;
}
