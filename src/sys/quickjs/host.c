// SPDX-License-Identifier: Apache-2.0
//
// The plugin's executable: an embedded QuickJS that runs one compiled module (scripts/pack/quickjs.ts) and gives it the
// global object `host`: libc's calls as they are, and the little of a runtime that the language itself doesn't have. Everything
// that can be written in TypeScript is; what host.d.ts says of a function isn't said again here.
//
// No function keeps a pointer into a buffer of JavaScript's beyond its own call, and each one checks a length it is given
// against the buffer's: whatever the module does, it can't read or write memory that isn't its own.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "heap.h"
#include "image.h"

// The module's bytecode, as compile.c wrote it. The names are global because arm64's linker takes two local ones of one section,
// reached through its table of addresses, for the same.
__asm__(".section .rodata\n"
        ".global bytecode, bytecode_end\n"
        ".balign 16\n"
        "bytecode: .incbin \"" BYTECODE "\"\n"
        "bytecode_end:\n"
        ".previous\n");
extern const uint8_t bytecode[], bytecode_end[];

// How deep arrays and objects of a JSON text may lie in one another: the engine's parser calls itself for each level.
#define JSON_DEPTH 512
// Where calls are this deep the engine throws; half of what a main thread has unless somebody gave it less.
#define STACK_BYTES (4 << 20)

#define FUNCTION(name) \
  static JSValue host_##name(JSContext *ctx, JSValueConst self, int count, JSValueConst *args)

// errno of the last call that failed.
static int last_errno;

// A call's result for JavaScript: as in C, but that errno is remembered at once, before the engine makes calls of its own.
static JSValue result_of(JSContext *ctx, int64_t result) {
  if (result < 0) last_errno = errno;
  return JS_NewInt64(ctx, result);
}

// The bytes of a Uint8Array of at least `least` bytes; NULL with an exception pending when the value is none.
static uint8_t *bytes_of(JSContext *ctx, JSValueConst value, size_t least, size_t *length) {
  size_t offset, size, buffer_size;
  JSValue buffer = JS_GetTypedArrayBuffer(ctx, value, &offset, &size, NULL);
  if (JS_IsException(buffer)) return NULL;
  uint8_t *start = JS_GetArrayBuffer(ctx, &buffer_size, buffer);
  // The array still holds its buffer.
  JS_FreeValue(ctx, buffer);
  if (start == NULL) return NULL;
  if (size < least) {
    JS_ThrowRangeError(ctx, "%zu bytes where %zu are needed", size, least);
    return NULL;
  }
  if (length != NULL) *length = size;
  return start + offset;
}

// A path: bytes with a zero at the end.
static const char *path_of(JSContext *ctx, JSValueConst value) {
  size_t length;
  const uint8_t *path = bytes_of(ctx, value, 1, &length);
  if (path != NULL && path[length - 1] != 0) {
    JS_ThrowTypeError(ctx, "a path without a zero at its end");
    return NULL;
  }
  return (const char *)path;
}

// The next `count` arguments as 32-bit numbers.
static int ints_of(JSContext *ctx, JSValueConst *args, int count, int32_t *into) {
  for (int at = 0; at < count; at++)
    if (JS_ToInt32(ctx, &into[at], args[at])) return -1;
  return 0;
}

FUNCTION(close) {
  int32_t fd;
  if (ints_of(ctx, args, 1, &fd)) return JS_EXCEPTION;
  return result_of(ctx, close(fd));
}

FUNCTION(connect) {
  int32_t fd, length;
  if (ints_of(ctx, args, 1, &fd) || ints_of(ctx, args + 2, 1, &length)) return JS_EXCEPTION;
  const uint8_t *address = bytes_of(ctx, args[1], (uint32_t)length, NULL);
  if (address == NULL) return JS_EXCEPTION;
  return result_of(ctx, connect(fd, (const struct sockaddr *)address, (socklen_t)length));
}

FUNCTION(fsync) {
  int32_t fd;
  if (ints_of(ctx, args, 1, &fd)) return JS_EXCEPTION;
  return result_of(ctx, fsync(fd));
}

FUNCTION(open) {
  int32_t how[2];
  const char *path = path_of(ctx, args[0]);
  if (path == NULL || ints_of(ctx, args + 1, 2, how)) return JS_EXCEPTION;
  return result_of(ctx, open(path, how[0], (mode_t)how[1]));
}

FUNCTION(read) {
  int32_t fd, length;
  if (ints_of(ctx, args, 1, &fd) || ints_of(ctx, args + 2, 1, &length)) return JS_EXCEPTION;
  uint8_t *into = bytes_of(ctx, args[1], (uint32_t)length, NULL);
  if (into == NULL) return JS_EXCEPTION;
  return result_of(ctx, read(fd, into, (uint32_t)length));
}

FUNCTION(rename) {
  const char *from = path_of(ctx, args[0]), *to = path_of(ctx, args[1]);
  if (from == NULL || to == NULL) return JS_EXCEPTION;
  return result_of(ctx, rename(from, to));
}

FUNCTION(setns) {
  int32_t of[2];
  if (ints_of(ctx, args, 2, of)) return JS_EXCEPTION;
  return result_of(ctx, setns(of[0], of[1]));
}

FUNCTION(setsockopt) {
  int32_t of[3], length;
  if (ints_of(ctx, args, 3, of) || ints_of(ctx, args + 4, 1, &length)) return JS_EXCEPTION;
  const uint8_t *value = bytes_of(ctx, args[3], (uint32_t)length, NULL);
  if (value == NULL) return JS_EXCEPTION;
  return result_of(ctx, setsockopt(of[0], of[1], of[2], value, (socklen_t)length));
}

FUNCTION(socket) {
  int32_t of[3];
  if (ints_of(ctx, args, 3, of)) return JS_EXCEPTION;
  return result_of(ctx, socket(of[0], of[1], of[2]));
}

FUNCTION(statx) {
  int32_t fd, how[2];
  const char *path = path_of(ctx, args[1]);
  if (path == NULL || ints_of(ctx, args, 1, &fd) || ints_of(ctx, args + 2, 2, how)) return JS_EXCEPTION;
  uint8_t *into = bytes_of(ctx, args[4], sizeof(struct statx), NULL);
  if (into == NULL) return JS_EXCEPTION;
  // Not into the buffer itself, which needn't lie as the struct must.
  struct statx found;
  int result = statx(fd, path, how[0], (uint32_t)how[1], &found);
  JSValue answer = result_of(ctx, result);
  memcpy(into, &found, sizeof found);
  return answer;
}

FUNCTION(unlink) {
  const char *path = path_of(ctx, args[0]);
  if (path == NULL) return JS_EXCEPTION;
  return result_of(ctx, unlink(path));
}

FUNCTION(write) {
  int32_t fd, length;
  if (ints_of(ctx, args, 1, &fd) || ints_of(ctx, args + 2, 1, &length)) return JS_EXCEPTION;
  const uint8_t *bytes = bytes_of(ctx, args[1], (uint32_t)length, NULL);
  if (bytes == NULL) return JS_EXCEPTION;
  return result_of(ctx, write(fd, bytes, (uint32_t)length));
}

FUNCTION(errno) { return JS_NewInt32(ctx, last_errno); }

FUNCTION(now) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return JS_NewFloat64(ctx, (double)at.tv_sec * 1e3 + (double)at.tv_nsec / 1e6);
}

FUNCTION(sleep) {
  double ms;
  if (JS_ToFloat64(ctx, &ms, args[0])) return JS_EXCEPTION;
  if (!(ms > 0)) return JS_UNDEFINED;
  if (ms > 86400e3) ms = 86400e3;
  struct timespec left = {.tv_sec = (time_t)(ms / 1e3)};
  left.tv_nsec = (long)((ms - (double)left.tv_sec * 1e3) * 1e6);
  while (nanosleep(&left, &left) != 0 && errno == EINTR) continue;
  return JS_UNDEFINED;
}

FUNCTION(exit) {
  int32_t status;
  if (ints_of(ctx, args, 1, &status)) return JS_EXCEPTION;
  // Nothing is freed: the kernel takes it all back at once.
  _exit(status);
}

#ifdef FAULTS
FUNCTION(kill) {
  raise(SIGKILL);
  return JS_UNDEFINED;
}
#endif

// Half of a surrogate pair becomes U+FFFD (EF BF BD), as the Encoding Standard has it; the engine writes its three bytes.
FUNCTION(encodeUtf8) {
  size_t length;
  const char *text = JS_ToCStringLen(ctx, &length, args[0]);
  if (text == NULL) return JS_EXCEPTION;
  JSValue buffer = JS_NewArrayBufferCopy(ctx, (const uint8_t *)text, length);
  JS_FreeCString(ctx, text);
  if (JS_IsException(buffer)) return buffer;
  size_t size;
  uint8_t *bytes = JS_GetArrayBuffer(ctx, &size, buffer);
  for (size_t at = 0; at + 2 < size; at++)
    if (bytes[at] == 0xed && bytes[at + 1] >= 0xa0) memcpy(bytes + at, "\xef\xbf\xbd", 3);
  return buffer;
}

// How many bytes the character at `at` has; 0 where there is none (RFC 3629, section 4).
static size_t utf8_length(const uint8_t *at, size_t left) {
  uint8_t first = at[0], low = 0x80, high = 0xbf;
  size_t length;
  if (first < 0x80) return 1;
  if (first < 0xc2 || first > 0xf4) return 0;
  length = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  if (left < length) return 0;
  if (first == 0xe0) low = 0xa0;
  if (first == 0xed) high = 0x9f;
  if (first == 0xf0) low = 0x90;
  if (first == 0xf4) high = 0x8f;
  if (at[1] < low || at[1] > high) return 0;
  for (size_t next = 2; next < length; next++)
    if ((at[next] & 0xc0) != 0x80) return 0;
  return length;
}

FUNCTION(decodeUtf8) {
  size_t size;
  const uint8_t *bytes = bytes_of(ctx, args[0], 0, &size);
  if (bytes == NULL) return JS_EXCEPTION;
  for (size_t at = 0, length; at < size; at += length)
    if ((length = utf8_length(bytes + at, size - at)) == 0) return JS_NULL;
  // The mark that some editors put in front isn't part of the text.
  size_t mark = size >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
  return JS_NewStringLen(ctx, (const char *)bytes + mark, size - mark);
}

static int json_depth(const char *text, size_t length) {
  int depth = 0, deepest = 0, quoted = 0;
  for (size_t at = 0; at < length; at++) {
    char c = text[at];
    if (quoted) {
      if (c == '\\') at++;
      else if (c == '"') quoted = 0;
    } else if (c == '"') quoted = 1;
    else if (c == '[' || c == '{') {
      if (++depth > deepest) deepest = depth;
    } else if (c == ']' || c == '}') depth--;
  }
  return deepest;
}

FUNCTION(parseJson) {
  size_t length;
  const char *text = JS_ToCStringLen(ctx, &length, args[0]);
  if (text == NULL) return JS_EXCEPTION;
  JSValue value = json_depth(text, length) > JSON_DEPTH
                      ? JS_ThrowSyntaxError(ctx, "more than %d levels deep", JSON_DEPTH)
                      : JS_ParseJSON(ctx, text, length, "JSON");
  JS_FreeCString(ctx, text);
  return value;
}

static const JSCFunctionListEntry FUNCTIONS[] = {
    JS_CFUNC_DEF("close", 1, host_close),
    JS_CFUNC_DEF("connect", 3, host_connect),
    JS_CFUNC_DEF("fsync", 1, host_fsync),
    JS_CFUNC_DEF("open", 3, host_open),
    JS_CFUNC_DEF("read", 3, host_read),
    JS_CFUNC_DEF("rename", 2, host_rename),
    JS_CFUNC_DEF("setns", 2, host_setns),
    JS_CFUNC_DEF("setsockopt", 5, host_setsockopt),
    JS_CFUNC_DEF("socket", 3, host_socket),
    JS_CFUNC_DEF("statx", 5, host_statx),
    JS_CFUNC_DEF("unlink", 1, host_unlink),
    JS_CFUNC_DEF("write", 3, host_write),
    JS_CFUNC_DEF("errno", 0, host_errno),
    JS_CFUNC_DEF("now", 0, host_now),
    JS_CFUNC_DEF("sleep", 1, host_sleep),
    JS_CFUNC_DEF("exit", 1, host_exit),
#ifdef FAULTS
    JS_CFUNC_DEF("kill", 0, host_kill),
#endif
    JS_CFUNC_DEF("encodeUtf8", 1, host_encodeUtf8),
    JS_CFUNC_DEF("decodeUtf8", 1, host_decodeUtf8),
    JS_CFUNC_DEF("parseJson", 1, host_parseJson),
};

// A text of the system's, which may be anything but UTF-8: what isn't becomes U+FFFD.
static JSValue text_of(JSContext *ctx, const char *text, size_t length) {
  size_t at = 0, size = 0;
  char *clean = js_malloc(ctx, length * 3 + 1);
  if (clean == NULL) return JS_EXCEPTION;
  while (at < length) {
    size_t step = utf8_length((const uint8_t *)text + at, length - at);
    memcpy(clean + size, step == 0 ? "\xef\xbf\xbd" : text + at, step == 0 ? 3 : step);
    size += step == 0 ? 3 : step;
    at += step == 0 ? 1 : step;
  }
  JSValue value = JS_NewStringLen(ctx, clean, size);
  js_free(ctx, clean);
  return value;
}

static JSValue environment(JSContext *ctx) {
  JSValue env = JS_NewObjectProto(ctx, JS_NULL);
  for (char **entry = environ; *entry != NULL; entry++) {
    const char *equals = strchr(*entry, '=');
    if (equals == NULL) continue;
    JSValue name = text_of(ctx, *entry, (size_t)(equals - *entry));
    JSAtom atom = JS_ValueToAtom(ctx, name);
    JS_FreeValue(ctx, name);
    // The first of two equal names counts, as in getenv(3).
    if (JS_HasProperty(ctx, env, atom) == 0)
      JS_SetProperty(ctx, env, atom, text_of(ctx, equals + 1, strlen(equals + 1)));
    JS_FreeAtom(ctx, atom);
  }
  return env;
}

static JSValue arguments(JSContext *ctx, int argc, char **argv) {
  JSValue list = JS_NewArray(ctx);
  for (int at = 0; at < argc; at++)
    JS_SetPropertyUint32(ctx, list, (uint32_t)at, text_of(ctx, argv[at], strlen(argv[at])));
  return list;
}

// What an exception that nobody caught comes to: a defect of ours or no memory. The runtime still gets an error result in
// the form of the CNI specification, section 5, with nothing of the exception's text in it that JSON would have to quote.
static int fail(JSContext *ctx) {
  JSValue error = JS_GetException(ctx);
  const char *text = JS_ToCString(ctx, error);
  JSValue stack = JS_GetPropertyStr(ctx, error, "stack");
  const char *where = JS_IsUndefined(stack) ? NULL : JS_ToCString(ctx, stack);
  fprintf(stderr, "%s\n%s", text == NULL ? "no memory" : text, where == NULL ? "" : where);
  puts("{\"cniVersion\":\"1.0.0\",\"code\":999,\"msg\":\"internal error\",\"details\":\"see the plugin's standard error\"}");
  return 1;
}

// The engine, its globals and the module's own top level. NULL when that failed, with a message on stderr.
static JSContext *boot(void) {
  JSRuntime *runtime = JS_NewRuntime2(&HEAP_FUNCTIONS, NULL);
  JSContext *ctx = runtime == NULL ? NULL : JS_NewContextRaw(runtime);
  if (ctx == NULL) {
    fputs("no memory\n", stderr);
    return NULL;
  }
  JS_SetMaxStackSize(runtime, STACK_BYTES);
  // Counting references frees nearly all; looking for cycles would cost more than they keep.
  JS_SetGCThreshold(runtime, HEAP_BYTES);
  // No eval, no Proxy, no Promise: what isn't used is neither set up nor there to be misused.
  JS_AddIntrinsicBaseObjects(ctx);
  JS_AddIntrinsicDate(ctx);
  JS_AddIntrinsicRegExp(ctx);
  JS_AddIntrinsicJSON(ctx);
  JS_AddIntrinsicMapSet(ctx);
  JS_AddIntrinsicTypedArrays(ctx);
  JS_AddIntrinsicBigInt(ctx);
  JSValue host = JS_NewObject(ctx), global = JS_GetGlobalObject(ctx);
  JS_SetPropertyFunctionList(ctx, host, FUNCTIONS, sizeof FUNCTIONS / sizeof FUNCTIONS[0]);
  JS_SetPropertyStr(ctx, global, "host", host);
  JS_FreeValue(ctx, global);
  size_t length = (size_t)(bytecode_end - bytecode);
  JSValue module = JS_ReadObject(ctx, bytecode, length, JS_READ_OBJ_BYTECODE | JS_READ_OBJ_ROM_DATA);
  if (JS_IsException(module) || JS_ResolveModule(ctx, module) < 0 || JS_IsException(JS_EvalFunction(ctx, module))) {
    fail(ctx);
    return NULL;
  }
  return ctx;
}

// Half of the main thread's stack and no more than STACK_BYTES: in the other half are the arguments and the environment, of which the
// kernel lets a quarter in (execve(2)), and calls of C that the engine doesn't count.
static size_t stack_bytes(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_STACK, &limit) != 0 || limit.rlim_cur / 2 > STACK_BYTES) return STACK_BYTES;
  return limit.rlim_cur / 2;
}

// What the module left as host.start, with all that is of this process and no other.
static int start(JSContext *ctx, int argc, char **argv) {
  // A peer that hangs up is an error of write(2) like any other, and not this process's end.
  signal(SIGPIPE, SIG_IGN);
  JS_SetMaxStackSize(JS_GetRuntime(ctx), stack_bytes());
  JS_UpdateStackTop(JS_GetRuntime(ctx));
  JSValue global = JS_GetGlobalObject(ctx), host = JS_GetPropertyStr(ctx, global, "host");
  JS_SetPropertyStr(ctx, host, "env", environment(ctx));
  JS_SetPropertyStr(ctx, host, "argv", arguments(ctx, argc, argv));
  char self[4096];
  ssize_t length = readlink("/proc/self/exe", self, sizeof self);
  JS_SetPropertyStr(ctx, host, "execPath", text_of(ctx, self, length < 0 ? 0 : (size_t)length));
  JS_SetPropertyStr(ctx, host, "pid", JS_NewInt32(ctx, getpid()));
  JSValue result = JS_Call(ctx, JS_GetPropertyStr(ctx, host, "start"), host, 0, NULL);
  return JS_IsException(result) ? fail(ctx) : 0;
}

#ifdef IMAGE
// The engine keeps where its stack begins, and a time that random numbers follow from. Both are the same in each build, so that the same
// sources make the same executable; the first is set anew at the start, and the plugin has no use for the second.
static int booting;
static JSContext *booted;
static unsigned char boot_stack[1 << 20];

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec at = {0};
  if (!booting) clock_gettime(CLOCK_REALTIME, &at);
  *now = (struct timeval){.tv_sec = at.tv_sec, .tv_usec = at.tv_nsec / 1000};
  return 0;
}

static void boot_there(void) { booted = boot(); }

static int make_image(const char *path) {
  ucontext_t there, back;
  getcontext(&there);
  there.uc_stack.ss_sp = boot_stack;
  there.uc_stack.ss_size = sizeof boot_stack;
  there.uc_link = &back;
  makecontext(&there, boot_there, 0);
  booting = 1;
  swapcontext(&back, &there);
  if (booted == NULL) return 1;
  const char *problem =
      heap_keep_context(booted) ? write_image(path) : "the heap is larger than its place in the executable";
  if (problem != NULL) fprintf(stderr, "%s\n", problem);
  return problem != NULL;
}
#endif

int main(int argc, char **argv) {
  JSContext *ctx = heap_context();
#ifdef IMAGE
  if (ctx == NULL) return make_image(argc == 2 ? argv[1] : "");
#else
  if (ctx == NULL) ctx = boot();
#endif
  return ctx == NULL ? 1 : start(ctx, argc, argv);
}
