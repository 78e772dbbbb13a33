// tidegate-worker: one loop that serves what its supervisor tells it to. Started by the supervisor
// only, with the channel as descriptor 3; or with --check FD to say whether it takes the
// configuration behind that descriptor.

#include <fcntl.h>
#include <nghttp2/nghttp2.h>
#include <seccomp.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <string_view>

#include <ares.h>
#include <llhttp.h>
#include <openssl/crypto.h>
#include <uv.h>

#include "common/config_load.h"
#include "common/log.h"
#include "common/name_files.h"
#include "common/process_name.h"
#include "common/test_fault.h"
#include "proxy/client_tls_contexts.h"
#include "proxy/confinement.h"
#include "proxy/tls_contexts.h"
#include "proxy/worker.h"

namespace tidegate {
namespace {

// Every descriptor that the system lets us have: connections are what we have them for.
void RaiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
}

// Signals of a terminal reach the whole group: the supervisor decides what they mean.
void IgnoreSignals() {
  for (int number : {SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGPIPE}) {
    std::signal(number, SIG_IGN);
  }
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

ConfinementReport ConfineOrNot() {
  if (FaultAt("worker", "confine") != Fault::kNone) {
    const ConfinementReport::Part off{.note = "a test asked for this fault"};
    return {.seccomp = off, .landlock = off};
  }
  return Confine();
}

// libuv keeps a descriptor in reserve, which it opens with a loop's first stream; where it cannot,
// it tries again with every other. So there is a first one before the worker is confined.
void MakeFirstStream(Loop& loop) {
  auto* stream = new uv_tcp_t;
  uv_tcp_init(loop.uv(), stream);
  uv_close(reinterpret_cast<uv_handle_t*>(stream),
           [](uv_handle_t* handle) { delete reinterpret_cast<uv_tcp_t*>(handle); });
}

int Check(int fd) {
  if (FaultAt("worker", "check") != Fault::kNone) {
    std::fputs("refused by a test\n", stderr);
    return 1;
  }
  // What a worker cannot do because it is confined is to be found here: a turn of its loop, too.
  RefuseRings();
  Loop loop;
  MakeFirstStream(loop);
  ConfineOrNot();
  loop.RunNoWait();
  loop.RunUntilClosed();
  std::string text;
  char buffer[65536];
  off_t offset = 0;
  ssize_t size = 0;
  while ((size = ::pread(fd, buffer, sizeof(buffer), offset)) > 0) {
    text.append(buffer, static_cast<std::size_t>(size));
    offset += size;
  }
  auto config = ParseEffectiveConfig(text);
  if (!config) {
    std::fprintf(stderr, "%s\n", config.error().ToString().c_str());
    return 78;
  }
  const TicketKeys tickets;
  auto tls = TlsContexts::Make(*config, nullptr, tickets);
  auto client_tls = ClientTlsContexts::Make(*config, nullptr);
  if (!tls) {
    std::fprintf(stderr, "%s\n", tls.error().detail().c_str());
  }
  if (!client_tls) {
    std::fprintf(stderr, "%s\n", client_tls.error().detail().c_str());
  }
  if (!tls || !client_tls) {
    return 78;
  }
  for (const std::string& warning : tls->Warnings(std::time(nullptr))) {
    std::puts(warning.c_str());
  }
  for (const std::string& warning : client_tls->Warnings(std::time(nullptr))) {
    std::puts(warning.c_str());
  }
  return 0;
}

int Serve() {
  IgnoreSignals();
  RaiseDescriptorLimit();
  RefuseRings();
  // Outlives the loop, whose destructor runs its close callback.
  uv_signal_t terminate;
  Loop loop;
  Worker worker(loop, UniqueFd(kWorkerChannelFd));
  MakeFirstStream(loop);
  // Once it is confined nobody opens them.
  worker.BeginWithNameFiles(ReadNameFiles());
  uv_signal_init(loop.uv(), &terminate);
  terminate.data = &worker;
  uv_signal_start(
      &terminate,
      [](uv_signal_t* handle, int) { static_cast<Worker*>(handle->data)->DrainBySignal(); },
      SIGTERM);
  int status = worker.Run(ConfineOrNot());
  uv_close(reinterpret_cast<uv_handle_t*>(&terminate), nullptr);
  CloseErrorLog();
  return status;
}

// `tidegate version -v` passes these lines on, and takes them apart for --json.
void PrintVersion(bool with_libraries) {
  std::puts("tidegate-worker " TIDEGATE_VERSION);
  if (with_libraries) {
    std::printf("  %-15s%s\n", "libuv", uv_version_string());
    std::printf("  %-15s%d.%d.%d\n", "llhttp", LLHTTP_VERSION_MAJOR, LLHTTP_VERSION_MINOR,
                LLHTTP_VERSION_PATCH);
    std::printf("  %-15s%s\n", "c-ares", ares_version(nullptr));
    std::printf("  %-15s%s\n", "nghttp2", nghttp2_version(0)->version_str);
    std::printf("  %-15s%u.%u.%u\n", "libseccomp", seccomp_version()->major,
                seccomp_version()->minor, seccomp_version()->micro);
    std::printf("  %-15s%s\n", "openssl", OpenSSL_version(OPENSSL_VERSION_STRING));
  }
}

}  // namespace
}  // namespace tidegate

int main(int argc, char** argv) {
  using namespace std::string_view_literals;
  tidegate::NameProcess("tidegate-worker");
  if (argc == 3 && argv[1] == "--check"sv) {
    return tidegate::Check(std::atoi(argv[2]));
  }
  if (argc >= 2 && argv[1] == "--version"sv) {
    tidegate::PrintVersion(argc == 3 && argv[2] == "-v"sv);
    return 0;
  }
  struct stat channel;
  if (argc != 1 || fstat(tidegate::kWorkerChannelFd, &channel) != 0 || !S_ISSOCK(channel.st_mode)) {
    std::fputs("tidegate-worker is started by tidegate; use \"tidegate run\"\n", stderr);
    return 2;
  }
  return tidegate::Serve();
}
