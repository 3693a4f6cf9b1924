// SPDX-License-Identifier: Apache-2.0
//
// Processes that are started and waited for by libc alone, which Node doesn't tell the costs of: posix_spawn(3), that
// shares this process's memory until the program has its own, and wait4(2). stdin and stdout are files in memory, so a process
// never waits for whom it is read by. For a program without other children.
import { closeSync, fstatSync, openSync, readSync, writeSync } from "node:fs";
import { errnoName } from "../src/sys/errno.ts";
import { type Fd, O_WRONLY, SysError } from "../src/sys/sys.ts";
import { check, native } from "../test/helpers/libc.ts";

export interface Command {
  /** The first is a path. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly stdin: Uint8Array;
}

/** What came of a process. */
export interface Ended {
  readonly pid: number;
  /** Null when a signal ended it. */
  readonly status: number | null;
  readonly stdout: string;
  /** User and system time. */
  readonly cpuMs: number;
}

const SIGPIPE = 13;
const MFD_CLOEXEC = 1;
const POSIX_SPAWN_SETSIGDEF = 4;
/** Not less than glibc's types of these names are long, on any architecture. */
const SPAWNATTR_BYTES = 512;
const FILE_ACTIONS_BYTES = 128;
const SIGSET_BYTES = 128;
const RUSAGE_BYTES = 144;

const memfdCreate = native("memfd_create", "int", "const char *", "uint32_t");
const wait4 = native("wait4", "int", "int", "void *", "int", "void *");
const sigaddset = native("sigaddset", "int", "void *", "int");
const setSigdefault = native("posix_spawnattr_setsigdefault", "int", "void *", "const void *");
const setFlags = native("posix_spawnattr_setflags", "int", "void *", "int16_t");
const initAttributes = native("posix_spawnattr_init", "int", "void *");
const initActions = native("posix_spawn_file_actions_init", "int", "void *");
const destroyActions = native("posix_spawn_file_actions_destroy", "int", "void *");
const addDup2 = native("posix_spawn_file_actions_adddup2", "int", "void *", "int", "int");
const posixSpawn = native(
  "posix_spawn",
  "int",
  "void *",
  "const char *",
  "const void *",
  "const void *",
  "const char **",
  "const char **",
);

/** Functions that return the error's number. @throws SysError */
function succeed(syscall: string, errno: number, what = ""): void {
  if (errno !== 0) throw new SysError(syscall, errno, errnoName(errno), what);
}

const nowhere = openSync("/dev/null", O_WRONLY);
const stdouts = new Map<number, Fd>();

/** Node ignores SIGPIPE, and whom it starts would too. */
const attributes = new Uint8Array(SPAWNATTR_BYTES);
const defaults = new Uint8Array(SIGSET_BYTES);
check("sigaddset", "", () => sigaddset(defaults, SIGPIPE));
succeed("posix_spawnattr_init", initAttributes(attributes));
succeed("posix_spawnattr_setsigdefault", setSigdefault(attributes, defaults));
succeed("posix_spawnattr_setflags", setFlags(attributes, POSIX_SPAWN_SETSIGDEF));

/**
 * Starts a process whose stderr goes nowhere.
 * @returns its pid; waitForAny() tells of it
 * @throws SysError when there is no such program
 */
export function start({ argv, env, stdin }: Command): number {
  const [input, output] = [fileInMemory("stdin"), fileInMemory("stdout")];
  try {
    // At an offset: the process reads from the beginning.
    if (stdin.length > 0) writeSync(input, stdin, 0, stdin.length, 0);
    const pid = spawn(argv, env, [input, output, nowhere]);
    stdouts.set(pid, output);
    return pid;
  } catch (error) {
    closeSync(output);
    throw error;
  } finally {
    closeSync(input);
  }
}

function spawn(argv: readonly string[], env: Command["env"], fds: readonly Fd[]): number {
  const pid = new Int32Array(1);
  const actions = new Uint8Array(FILE_ACTIONS_BYTES);
  succeed("posix_spawn_file_actions_init", initActions(actions));
  try {
    for (const [as, fd] of fds.entries()) succeed("posix_spawn_file_actions_adddup2", addDup2(actions, fd, as));
    const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
    const path = argv[0] ?? "";
    succeed("posix_spawn", posixSpawn(pid, path, actions, attributes, [...argv, null], [...variables, null]), path);
  } finally {
    destroyActions(actions);
  }
  return pid[0] as number;
}

/**
 * The first of the processes to end, or that has. Nothing else happens here until then.
 * @throws SysError ECHILD when there is none
 */
export function waitForAny(): Ended {
  const status = new Int32Array(1);
  const usage = new Uint8Array(RUSAGE_BYTES);
  const pid = check("wait4", "", () => wait4(-1, status, 0, usage));
  // struct rusage (include/uapi/linux/resource.h) begins with two struct timeval: user and system time. Its ru_maxrss isn't the
  // program's: until exec the process had this one's memory, and that counts (setmax_mm_hiwater_rss in exec_mmap, fs/exec.c).
  // Of a process that a small one forks it is (setsid --fork, and PR_SET_CHILD_SUBREAPER here).
  const view = new DataView(usage.buffer);
  const ms = (at: number) => Number(view.getBigInt64(at, true)) * 1000 + Number(view.getBigInt64(at + 8, true)) / 1000;
  const word = status[0] as number;
  const stdout = stdouts.get(pid) as Fd;
  stdouts.delete(pid);
  // WIFEXITED and WEXITSTATUS of wait(2).
  const exited = (word & 0x7f) === 0;
  return { pid, status: exited ? (word >> 8) & 0xff : null, stdout: takeText(stdout), cpuMs: ms(0) + ms(16) };
}

function fileInMemory(name: string): Fd {
  return check("memfd_create", name, () => memfdCreate(name, MFD_CLOEXEC));
}

function takeText(fd: Fd): string {
  const bytes = Buffer.alloc(fstatSync(fd).size);
  readSync(fd, bytes, 0, bytes.length, 0);
  closeSync(fd);
  return bytes.toString();
}
