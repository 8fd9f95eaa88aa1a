// A channel for Campanile: posts each notification, as JSON, to a URL.
//
// The host makes the request, on its own threads and under its rules for addresses, and calls us back. So nothing here
// waits. bridge.c holds the table and the manifest.
package main

/*
#cgo CFLAGS: -fvisibility=hidden
#include "bridge.h"
*/
import "C"

import (
	"encoding/json"
	"fmt"
	"net/url"
	"runtime/cgo"
	"strconv"
	"unsafe"
)

const description = `{"name":"my_channel","version":"0.1.0",
"description":"Posts each notification, as JSON, to a URL.","recipient":{"format":"my_channel"},
"max_concurrency":16,"content":[],"recommended_isolation":"process",
"config_schema":{"type":"object","properties":{"url":{"type":"string","format":"uri","pattern":"^https?://",
"description":"Where notifications go."}},"required":["url"],"additionalProperties":false}}`

type config struct {
	URL string `json:"url"`
}

type instance struct {
	host   *C.camp_host // belongs to the instance, never to a global
	config config
}

// A request under way.
type job struct {
	host  *C.camp_host
	token C.uint64_t
}

func text(ptr *C.char, n C.size_t) string {
	if ptr == nil || n == 0 {
		return ""
	}
	return C.GoStringN(ptr, C.int(n))
}

// The bytes of a string, for the length of a call.
func bytes(s string) (*C.char, C.size_t) {
	if s == "" {
		return nil, 0
	}
	b := []byte(s)
	return (*C.char)(unsafe.Pointer(&b[0])), C.size_t(len(b))
}

func end(host *C.camp_host, token C.uint64_t, status C.uint32_t, retryAfterMs C.uint64_t, code, message string) {
	c, cn := bytes(code)
	m, mn := bytes(message)
	C.bridge_end(host, token, status, retryAfterMs, c, cn, m, mn)
}

func parsed(text string) (config, error) {
	var c config
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return c, err
	}
	if u, err := url.Parse(c.URL); err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return c, fmt.Errorf("must begin with https:// or http://")
	}
	return c, nil
}

//export channelDescribe
func channelDescribe(out *C.camp_sink) {
	t, n := bytes(description)
	C.bridge_write(out, t, n)
}

//export channelValidate
func channelValidate(ptr *C.char, n C.size_t, problems *C.camp_sink) {
	if _, err := parsed(text(ptr, n)); err != nil {
		found, _ := json.Marshal([]map[string]string{{"pointer": "/url", "message": err.Error()}})
		t, n := bytes(string(found))
		C.bridge_write(problems, t, n)
	}
}

//export channelStart
func channelStart(host *C.camp_host, ptr *C.char, n C.size_t, token C.uint64_t) C.uintptr_t {
	c, err := parsed(text(ptr, n))
	if err != nil {
		end(host, token, C.CAMP_MISCONFIGURED, C.CAMP_UNSET, "config", "url "+err.Error())
		return 0
	}
	handle := cgo.NewHandle(&instance{host, c})
	end(host, token, C.CAMP_OK, C.CAMP_UNSET, "", "")
	return C.uintptr_t(handle)
}

//export channelDeliver
func channelDeliver(raw C.uintptr_t, items unsafe.Pointer, n C.size_t) {
	self := cgo.Handle(raw).Value().(*instance)
	for i := C.size_t(0); i < n; i++ {
		self.deliver(C.bridge_item((**C.camp_delivery)(items), i))
	}
}

func (self *instance) deliver(d *C.camp_delivery) {
	headers, _ := json.Marshal(map[string]string{
		"content-type":    "application/json",
		"idempotency-key": text(d.idempotency_key.ptr, d.idempotency_key.len),
	})
	u, un := bytes(self.config.URL)
	h, hn := bytes(string(headers))
	handle := cgo.NewHandle(&job{self.host, d.token})
	body, bn := d.message_json.ptr, d.message_json.len
	if C.bridge_post(self.host, d.token, u, un, h, hn, body, bn, C.uintptr_t(handle)) != 0 {
		handle.Delete() // refused: there is no callback
		end(self.host, d.token, C.CAMP_RETRY, C.CAMP_UNSET, "not_taken", "the host took no request")
	}
}

// Called once for each request, whatever became of it.
//
//export channelAnswered
func channelAnswered(raw C.uintptr_t, status C.uint32_t, headers *C.char, hn C.size_t, why *C.char, wn C.size_t) {
	handle := cgo.Handle(raw)
	defer handle.Delete()
	job := handle.Value().(*job)
	outcome, after := C.uint32_t(C.CAMP_PERMANENT), C.uint64_t(C.CAMP_UNSET)
	switch {
	case status == 0:
		said := text(why, wn)
		if len(said) < 7 || said[:7] != "refused" {
			outcome = C.CAMP_RETRY
		}
		end(job.host, job.token, outcome, after, "no_answer", said)
		return
	case status < 300:
		end(job.host, job.token, C.CAMP_OK, after, "", "")
		return
	case status == 429:
		outcome, after = C.CAMP_THROTTLED, retryAfter(text(headers, hn))
	case status == 410:
		outcome = C.CAMP_RECIPIENT_GONE
	case status == 401 || status == 403:
		outcome = C.CAMP_MISCONFIGURED
	case status == 408 || status >= 500:
		outcome, after = C.CAMP_RETRY, retryAfter(text(headers, hn))
	}
	end(job.host, job.token, outcome, after, fmt.Sprintf("http_%d", status), "")
}

func retryAfter(headers string) C.uint64_t {
	var h map[string]string
	if json.Unmarshal([]byte(headers), &h) == nil {
		if seconds, err := strconv.ParseUint(h["retry-after"], 10, 32); err == nil {
			return C.uint64_t(seconds * 1000)
		}
	}
	return C.CAMP_UNSET
}

//export channelDestroy
func channelDestroy(raw C.uintptr_t) {
	cgo.Handle(raw).Delete()
}

func main() {}
