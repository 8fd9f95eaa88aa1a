/* What main.go and bridge.c share. */
#include "campanile_plugin.h"

/* In bridge.c: calls through the host's pointers, which Go can't make. */
void bridge_end(const camp_host *host, uint64_t token, uint32_t status, uint64_t retry_after_ms, const char *code,
                size_t code_len, const char *message, size_t message_len);
int32_t bridge_post(const camp_host *host, uint64_t token, const char *url, size_t url_len, const char *headers,
                    size_t headers_len, const char *body, size_t body_len, uintptr_t job);
void bridge_write(const camp_sink *sink, const char *text, size_t len);
const camp_delivery *bridge_item(const camp_delivery *const *items, size_t i);
