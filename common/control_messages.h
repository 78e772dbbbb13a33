#pragma once

// What supervisor, workers and CLI say to each other. Every message is one JSON object in one
// SOCK_SEQPACKET record:
//
//   {"v":1,"type":"...", ...}
//
// A receiver refuses another major version and ignores fields that it does not know. Descriptors
// travel beside a record; "fds":N says how many. A record longer than 64 KiB travels as
// {"v":1,"type":"...","fds":N,"memfd":true} with the whole object in a sealed memfd, the first of
// its descriptors (common/control.h does this by itself).

// clang-format off
//
// 1. Supervisor and worker (the worker's descriptor 3)
//
//   from the worker
//     hello      {pid, version, protocol, confinement:{seccomp:{in_force:bool, note?}, landlock:{same}}}
//                                                first, by itself. note: why it is not in force, or what is left out
//     prepared   {id}                            answers prepare
//     rejected   {id, diagnostics}               answers prepare; a text for people, lines end with \n
//     committed  {id}                            answers commit
//     released   {listeners:[id]}                all sockets of these listeners are closed
//     gate       {open:bool}                     whether it accepts at all: false while it has all connections it may have
//     draining   {left, tunnels, oldest_seconds, cut, handing_over:bool, moved:{kind:n}, declined:{reason:n}}
//                                                now and then during drain and at its end; then the worker exits with 0.
//                                                cut: ended at a deadline inside an exchange or a tunnel, so far.
//                                                moved, declined: so far; kinds and reasons as in section 3. handing_over:
//                                                what can move has not been offered once yet
//     answer     {id, data} or {id, error}       answers query; data is any JSON
//     pong       {id}
//     resolved   {addresses:{name:[text]}}       what names of upstreams resolve to now (common/known_addresses.h)
//     adopted    {pid, version, generation, slot, workers, row, confinement, listeners:[{name,id,bound,key}],
//                 known_addresses:{name:[text]}, ticket_keys:bool}
//                                                answers takeover; +fds [counters]; then sockets; ticket_keys:true:
//                                                then that
//     ticket_keys {}                             +fds [the ring that rotate_keys brought last]
//   from the supervisor
//     init       {generation, slot, workers, row}
//                                                +fds [counters, control listening socket, error log]
//     sockets    {sockets:[{listener,slot}]}     +fds, one for each: sockets that are new to the worker
//     prepare    {id, listeners:[{name,id,bound,key}], access_log:bool, known_addresses:{name:[text]}}
//                                                +fds [configuration memfd, access log if there is one]
//     commit     {id}
//     abandon    {id}
//     accept     {slots:[n]}                     accept on these slots of every listener; empty: on none
//     drop_listeners {listeners:[id]}            accept until none has come for a linger time, close, say released
//     drain      {drain_seconds, drain_tunnels_seconds, close_idle}   null: no limit; close_idle at a stop
//     adopt_from {from:"7.0"}                    +fds [channel, lifeline]: adopt what a worker of an older generation (and
//                                                slot) offers there (section 3). The lifeline is the reading end of a pipe
//     hand_over  {to:"8.1"}                      +fds [channel, lifeline]: the other ends of such a pair. From the drain on,
//                                                before or after it, live connections go there. Takes the place of one that
//                                                came before
//     query      {id, what, argument}            what: "connections", "kill_connection", "upstreams", "certificates"
//     ping       {id}
//     rotate_keys {}                             +fds [the ring of ticket keys, common/ticket_ring.h]: after init, and
//                                                whenever it has changed, also while draining
//     name_files {}                              +fds [memfds with resolv.conf and /etc/hosts; one that is not there is
//                                                empty]: before prepare, and whenever one of them has changed. Without it
//                                                a worker goes by what it has read itself at its start
//     reopen_logs {access_log:bool}              +fds [error log, access log if there is one]
//     loglevel   {level, seconds}                seconds 0: for good
//     takeover   {}                              to an orphaned worker, over a new connection to its control socket
//     control_listener {}                        after its answer: +fds [where it waits for another supervisor, should
//                                                this one die as well]; without: nowhere
//
// 2. CLI and supervisor (the control socket)
//
//   client: command {command, args:{...}}        one a connection
//   supervisor: progress*, then result; the connection then ends. A client may leave at any time: what
//   it asked goes on.
//
//     progress {phase, step, state, text, seconds, ...}
//       phase    of an upgrade: "request", "snapshot", "preflight", "supervisor", "bind", "prepare", "commit",
//                "probation", "hand over", "drain", "deadline", "retire"; of a reload: "snapshot", "bind", "prepare",
//                "commit"; of a stop: "delay", "drain". `step` is DESIGN section 4's number (0 for others).
//       state    "running" | "ok" | "failed" | "warning"; running may come many times, ok or failed once
//       text     for people, without the phase
//       seconds  how long the phase has taken so far
//       "hand over" comes only if upgrade.hand_over is on and the old workers know how
//       "drain" also: generation, left, of, tunnels, oldest_seconds, limit_seconds
//     result {exit_code, message, data, ...}
//       exit_code         as INTERFACE section 1; 0 done, 1 failed, 6 conflict, 7 timed out, 8 rolled back,
//                         78 invalid
//       message           one line for people, e.g. "nothing to do", "Still serving 1.0.0 (generation 7)."; may be ""
//       data              an object by command, below; {} if there is none
//       and where they apply:
//       phase             the phase that failed
//       reason            why it failed, for people
//       diagnostics       array as DiagnosticsJson writes it; diagnostics_text: as FormatDiagnostics does;
//                         also warnings
//       changes           array of texts: what changed (DiffConfig)
//       output            the last lines that a failed process wrote, one text
//
//   args are named as the options are; durations are texts ("30s"). All may be absent.
//
//   command    args                            data
//   reload     {force}                         {generation, became_upgrade, changed}
//   upgrade    {binary, drain, force, detach}  {generation, version, previous_version, became_upgrade, changed,
//                                               drained, forced, killed_workers, seconds,
//                                               handed_over:{idle, tunnels, upstream}, declined:{reason:n}}
//                                               drained: ended by themselves; neither forced nor handed over
//   rollback   {drain, detach}                 as upgrade
//   stop       {now}                           {}
//   status     {}                              below
//   conns      {generation, state}             {schema_version:1, connections:[{id:"8.0.17", generation, slot, pid,
//                                               state, client, listener, age_seconds, bytes_in, bytes_out,
//                                               hand_overs (how often it has moved; absent: never)}],
//                                               silent_workers:[{generation, slot, pid}]: asked, no answer}
//   conns      {kill:"8.0.17"}                 {killed:bool}
//   cert       {action:"list"}                 {schema_version:1, watched:bool, certificates:[{file, hosts:[text], kind,
//                                               issuer, not_before:"..Z", not_after:"..Z", days_left (below 0: expired),
//                                               ocsp:{file, sent:bool, fault, until:"..Z" or null}?}]}
//   reopen     {}                              {}
//   loglevel   {level, for}                    {}
//   ping       {}                              {pid, version}
//
//   status:
//     { schema_version:1, pid, version, state:"starting|serving|reloading|upgrading|stopping",
//       healthy:bool (false: exit 3), problems:[text], started:"2026-..Z", uptime_seconds,
//       config_file, config_loaded:"2026-..Z", binary, worker_binary, socket, generation,
//       config_fault (null, or why the file could not be used at the start: what was in force before a crash serves),
//       previous_version (or null),
//       generations:[{number, state:"starting|ready|serving|probation|draining", version, since:"..Z",
//                     workers:[{slot, pid, state:"starting|prepared|serving|draining|exited", restarts,
//                               started:"..Z", uptime_seconds, requests, connections, tunnels,
//                               confinement:{as in hello; absent: a worker of before it},
//                               draining:{left, tunnels, oldest_seconds, moved:{idle, tunnels, upstream}?,
//                                         declined:{reason:n}?}?}],
//                     draining:{the sums, also of workers that are gone}?}],
//       listeners:[{name, bind, accept, addresses:["127.0.0.1:43121"], sockets}],
//       upstreams:[{name, endpoints:[{address, state:"up|unresolved", in_flight, idle, failure?}]}],
//       counters:{name:number} }
//
// 3. Two workers, an old one and a new one: live connections move (proxy/handover.h)
//
//   new: ready    {record, room}                 first, by itself. record: the version of records that it knows; room: how
//                                                many descriptors it can take at once
//   old: offer    {batch, record, connections:[..]}
//                                                +fds [octets memfd, if "octets":true; then those of each connection]. The
//                                                old one reads no more of them
//   new: answer   {batch, room, declined:[{index, reason}]}
//                                                those that it has taken it holds, and does not read
//   old: commit   {batch}                        they are the new one's; the old one has none of them any more
//
//   kinds     "idle" (between two requests), "tunnel", "upstream" (a pooled one)
//   reasons   "record", "listener", "route", "upstream", "limits", "descriptors", "closed", "draining"
//
//   One batch is under way at a time. The end of the channel says that the other side has given up or died, and the
//   lifeline which: an old worker that gives up writes an octet there before it reads again from what was not committed.
//   The end of the lifeline without one is its death: then what it offered last is the new one's.
//
// clang-format on

#include <cstddef>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "common/result.h"
#include "common/unique_fd.h"

namespace tidegate {

inline constexpr int kControlVersion = 1;
// Records up to this length travel as they are.
inline constexpr std::size_t kControlInlineBytes = 64 * 1024;
// SCM_MAX_FD of Linux.
inline constexpr std::size_t kControlMaxFds = 253;
// What a peer may make us read: a configuration of this size is refused when it is loaded.
inline constexpr std::size_t kControlMaxPayload = 64 * 1024 * 1024;

// {"v":1,"type":type}, to be filled.
nlohmann::json MakeControlMessage(std::string_view type);

// Fields of what a peer sent: `fallback` if the field is missing or of another kind. Never throws.
std::uint64_t NumberOf(const nlohmann::json& object, const char* name, std::uint64_t fallback = 0);
double SecondsOf(const nlohmann::json& object, const char* name, double fallback = 0);
std::string TextOf(const nlohmann::json& object, const char* name);
bool FlagOf(const nlohmann::json& object, const char* name, bool fallback = false);
// The numbers of a list; what is none is left out.
std::vector<std::uint64_t> NumbersOf(const nlohmann::json& object, const char* name);

struct ControlMessage {
  // An object with a `type`.
  nlohmann::json body;
  std::vector<UniqueFd> fds;

  std::string type() const { return TextOf(body, "type"); }
};

}  // namespace tidegate
