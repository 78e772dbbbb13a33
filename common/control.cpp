#include "common/control.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "common/check.h"
#include "common/control_wire.h"

namespace tidegate {
namespace {

// Room for a record that is a little longer than we would send, so that a peer's mistake is seen as
// one.
constexpr std::size_t kRecordBytes = kControlInlineBytes + 4096;

using Clock = std::chrono::steady_clock;

int MillisecondsLeft(Clock::time_point until) {
  auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, 1'000'000));
}

// Waits for `events` of poll(2); false at the deadline.
bool WaitFor(int fd, short events, Duration timeout, Clock::time_point until) {
  while (true) {
    pollfd entry{.fd = fd, .events = events, .revents = 0};
    int ready = ::poll(&entry, 1, timeout == kNever ? -1 : MillisecondsLeft(until));
    if (ready > 0) {
      return true;
    }
    if (ready == 0) {
      return false;
    }
    if (errno != EINTR) {
      return true;  // The next call on the descriptor says what is wrong.
    }
  }
}

Clock::time_point DeadlineOf(Duration timeout) {
  return Clock::now() + (timeout == kNever ? Duration::zero() : timeout);
}

Result<sockaddr_un> UnixAddress(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return Fail(Error::System(ENAMETOOLONG, "use the control socket " + path));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

std::vector<UniqueFd> TakeDescriptors(msghdr& header) {
  std::vector<UniqueFd> fds;
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) {
      continue;
    }
    std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
      fds.emplace_back(fd);
    }
  }
  return fds;
}

// Parses one record; `fds` came beside it.
Result<ControlMessage> Decode(std::string_view text, std::vector<UniqueFd> fds) {
  ControlMessage message;
  message.body = nlohmann::json::parse(text, nullptr, false);
  if (!message.body.is_object() || message.type().empty()) {
    return Fail(ErrorKind::kProtocol, "a control message is not an object with a type");
  }
  if (NumberOf(message.body, "v") != static_cast<std::uint64_t>(kControlVersion)) {
    return Fail(ErrorKind::kProtocol, "the peer speaks another version of the control protocol");
  }
  if (NumberOf(message.body, "fds") != fds.size()) {
    return Fail(ErrorKind::kProtocol, "descriptors of a control message are missing");
  }
  message.fds = std::move(fds);
  if (!FlagOf(message.body, "memfd")) {
    return message;
  }
  if (message.fds.empty()) {
    return Fail(ErrorKind::kProtocol, "the payload of a control message is missing");
  }
  Result<std::string> payload = ReadMemfd(message.fds.front().get());
  if (!payload) {
    return Fail(payload.error());
  }
  std::string type = message.type();
  message.body = nlohmann::json::parse(*payload, nullptr, false);
  if (!message.body.is_object() || message.type() != type) {
    return Fail(ErrorKind::kProtocol, "the payload of a control message is damaged");
  }
  message.fds.erase(message.fds.begin());
  return message;
}

}  // namespace

nlohmann::json MakeControlMessage(std::string_view type) {
  return nlohmann::json{{"v", kControlVersion}, {"type", type}};
}

std::uint64_t NumberOf(const nlohmann::json& object, const char* name, std::uint64_t fallback) {
  auto found = object.find(name);
  return found != object.end() && found->is_number_unsigned() ? found->get<std::uint64_t>()
                                                              : fallback;
}

double SecondsOf(const nlohmann::json& object, const char* name, double fallback) {
  auto found = object.find(name);
  return found != object.end() && found->is_number() ? found->get<double>() : fallback;
}

std::string TextOf(const nlohmann::json& object, const char* name) {
  auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

bool FlagOf(const nlohmann::json& object, const char* name, bool fallback) {
  auto found = object.find(name);
  return found != object.end() && found->is_boolean() ? found->get<bool>() : fallback;
}

std::vector<std::uint64_t> NumbersOf(const nlohmann::json& object, const char* name) {
  std::vector<std::uint64_t> numbers;
  auto found = object.find(name);
  if (found != object.end() && found->is_array()) {
    for (const nlohmann::json& entry : *found) {
      if (entry.is_number_unsigned()) {
        numbers.push_back(entry.get<std::uint64_t>());
      }
    }
  }
  return numbers;
}

Result<std::pair<UniqueFd, UniqueFd>> MakeControlPair() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
    return Fail(Error::System(errno, "make a pair of control sockets"));
  }
  return std::pair(UniqueFd(ends[0]), UniqueFd(ends[1]));
}

Result<UniqueFd> MakeMemfd(std::string_view name, std::string_view text) {
  UniqueFd memfd(::memfd_create(std::string(name).c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memfd) {
    return Fail(Error::System(errno, "make a memory file"));
  }
  while (!text.empty()) {
    ssize_t written = ::write(memfd.get(), text.data(), text.size());
    if (written < 0) {
      return Fail(Error::System(errno, "write a memory file"));
    }
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  constexpr int kSeals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
  if (::fcntl(memfd.get(), F_ADD_SEALS, kSeals) != 0) {
    return Fail(Error::System(errno, "seal a memory file"));
  }
  return memfd;
}

Result<std::string> ReadMemfd(int fd) {
  struct stat info{};
  int seals = ::fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_WRITE) == 0 || (seals & F_SEAL_SHRINK) == 0 ||
      ::fstat(fd, &info) != 0) {
    return Fail(ErrorKind::kProtocol, "a payload is not a sealed memory file");
  }
  auto size = static_cast<std::size_t>(info.st_size);
  if (size > kControlMaxPayload) {
    return Fail(ErrorKind::kProtocol, "a payload is too large");
  }
  std::string text(size, '\0');
  std::size_t done = 0;
  while (done < size) {
    ssize_t count = ::pread(fd, text.data() + done, size - done, static_cast<off_t>(done));
    if (count <= 0) {
      return Fail(Error::System(errno, "read a memory file"));
    }
    done += static_cast<std::size_t>(count);
  }
  return text;
}

Result<PeerCredentials> PeerOf(int fd) {
  ucred credentials{};
  socklen_t size = sizeof(credentials);
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
    return Fail(Error::System(errno, "ask for the peer's credentials"));
  }
  return PeerCredentials{.pid = credentials.pid, .uid = credentials.uid, .gid = credentials.gid};
}

Result<UniqueFd> ListenControl(const std::string& path, mode_t mode) {
  Result<sockaddr_un> address = UnixAddress(path);
  if (!address) {
    return Fail(address.error());
  }
  UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  // The umask decides the mode while nobody else runs: bind, then chmod, would leave a gap in which
  // it is open to all.
  mode_t before = ::umask(static_cast<mode_t>(~mode & 0777));
  bool bound =
      fd && ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof(*address)) == 0;
  int bind_errno = errno;
  ::umask(before);
  if (!bound) {
    return Fail(Error::System(bind_errno, "bind the control socket " + path));
  }
  if (::listen(fd.get(), kControlBacklog) != 0) {
    return Fail(Error::System(errno, "listen on the control socket " + path));
  }
  return fd;
}

Result<UniqueFd> ConnectControl(const std::string& path, Duration timeout) {
  Result<sockaddr_un> address = UnixAddress(path);
  if (!address) {
    return Fail(address.error());
  }
  UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  Clock::time_point until = DeadlineOf(timeout);
  while (true) {
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof(*address)) == 0) {
      return fd;
    }
    // EAGAIN: its queue is full. There is nothing to poll for; try again a little later.
    if (errno != EAGAIN && errno != EINTR) {
      return Fail(Error::System(errno, "connect to " + path));
    }
    if (timeout != kNever && Clock::now() >= until) {
      return Fail(Error::System(ETIMEDOUT, "connect to " + path));
    }
    ::poll(nullptr, 0, 10);
  }
}

Result<WireRecord> EncodeControl(const nlohmann::json& body, std::size_t fd_count) {
  TG_CHECK(fd_count < kControlMaxFds);
  WireRecord record;
  nlohmann::json object = body;
  object["fds"] = fd_count;
  record.text = object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (record.text.size() > kControlInlineBytes) {
    Result<UniqueFd> memfd = MakeMemfd("tidegate-message", record.text);
    if (!memfd) {
      return Fail(memfd.error());
    }
    record.payload = std::move(*memfd);
    nlohmann::json stub = MakeControlMessage(TextOf(body, "type"));
    stub["fds"] = fd_count + 1;
    stub["memfd"] = true;
    record.text = stub.dump();
  }
  return record;
}

Result<bool> TrySendRecord(int fd, std::string_view text, std::span<const int> fds) {
  iovec part{.iov_base = const_cast<char*>(text.data()), .iov_len = text.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kControlMaxFds * sizeof(int))> control{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (!fds.empty()) {
    header.msg_control = control.data();
    header.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(rights), fds.data(), fds.size_bytes());
  }
  while (::sendmsg(fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
    if (errno == EINTR) {
      continue;
    }
    // ETOOMANYREFS: too many descriptors are under way; they arrive when the peer reads.
    if (errno == EAGAIN || errno == ETOOMANYREFS) {
      return false;
    }
    if (errno == EPIPE || errno == ECONNRESET) {
      return Fail(ErrorKind::kClosed, "the peer has closed the control connection");
    }
    return Fail(Error::System(errno, "send a control message"));
  }
  return true;
}

Result<std::optional<ControlMessage>> TryReceiveControl(int fd) {
  thread_local std::array<char, kRecordBytes> text;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kControlMaxFds * sizeof(int))> control{};
  iovec part{.iov_base = text.data(), .iov_len = text.size()};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  ssize_t size = 0;
  // A peer that closes with our messages unread leaves ECONNRESET in front of what it sent before;
  // it is reported once (unix_release_sock).
  bool reset_seen = false;
  while ((size = ::recvmsg(fd, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT)) < 0) {
    if (errno == EINTR || (errno == ECONNRESET && !std::exchange(reset_seen, true))) {
      continue;
    }
    if (errno == EAGAIN) {
      return std::nullopt;
    }
    if (errno == ECONNRESET) {
      return Fail(ErrorKind::kClosed, "the peer has closed the control connection");
    }
    return Fail(Error::System(errno, "receive a control message"));
  }
  std::vector<UniqueFd> fds = TakeDescriptors(header);
  if (size == 0) {
    return Fail(ErrorKind::kClosed, "the peer has closed the control connection");
  }
  if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
    return Fail(ErrorKind::kProtocol, "a control message was cut");
  }
  Result<ControlMessage> message =
      Decode(std::string_view(text.data(), static_cast<std::size_t>(size)), std::move(fds));
  if (!message) {
    return Fail(message.error());
  }
  return std::optional<ControlMessage>(std::move(*message));
}

Result<> SendControl(int fd, const nlohmann::json& body, std::span<const int> fds,
                     Duration timeout) {
  Result<WireRecord> record = EncodeControl(body, fds.size());
  if (!record) {
    return Fail(record.error());
  }
  std::vector<int> all = record->WithPayload(fds);
  Clock::time_point until = DeadlineOf(timeout);
  while (true) {
    Result<bool> sent = TrySendRecord(fd, record->text, all);
    if (!sent) {
      return Fail(sent.error());
    }
    if (*sent) {
      return {};
    }
    if (!WaitFor(fd, POLLOUT, timeout, until)) {
      return Fail(ErrorKind::kTimeout, "the peer does not read control messages");
    }
  }
}

Result<ControlMessage> ReceiveControl(int fd, Duration timeout) {
  Clock::time_point until = DeadlineOf(timeout);
  while (true) {
    Result<std::optional<ControlMessage>> message = TryReceiveControl(fd);
    if (!message) {
      return Fail(message.error());
    }
    if (message->has_value()) {
      return std::move(**message);
    }
    if (!WaitFor(fd, POLLIN, timeout, until)) {
      return Fail(ErrorKind::kTimeout, "the peer does not answer");
    }
  }
}

}  // namespace tidegate
