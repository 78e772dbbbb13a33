// What a client sends to a TLS port, octet for octet, into the server's side of a TlsStream with
// two certificates; and the same octets as the name that a client asks for. Whatever comes: the
// stream stays within its memory, tells its owner of the end, and leaves OpenSSL's error queue
// empty. They come in pieces that are as long as the last octet says.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/net/tls_stream.h"
#include "tests/support/played_stream.h"
#include "tests/support/test_certificates.h"

namespace tidegate {
namespace {

class Rig final : public StreamOwner {
 public:
  Rig() {
    std::vector<CertificateMaterial> materials;
    materials.push_back(TestMaterial({.hosts = {"example.org"}, .key = "P-256"}));
    materials.push_back(TestMaterial({.hosts = {"*.wild.example"}, .key = "P-256"}));
    certificates_ = *CertificateStore::Make(materials);
    const std::vector<std::string> protocols = {"h2", "http/1.1"};
    tls_ = *ServerTls::Make(TlsProfile::kIntermediate, certificates_, protocols, keys_,
                            std::chrono::hours(12));
  }

  void LookUp(std::string_view name) {
    const CertificateStore::Choice& found = certificates_->Find(name);
    TG_CHECK(found.size() == 1);
    std::string host = CanonicalHost(name);
    std::size_t dot = host.find('.');
    bool wild = dot != std::string::npos && dot > 0 && host.substr(dot) == ".wild.example" &&
                host.size() <= 253;
    TG_CHECK((found.front()->hosts.front() == "*.wild.example") == wild);
  }

  void Play(std::string_view octets) {
    ended_ = false;
    std::size_t piece = octets.empty() ? 1 : static_cast<unsigned char>(octets.back()) + 1U;
    auto below = std::make_unique<PlayedStream>();
    PlayedStream& played = *below;
    stream_ = TlsStream::Accept(loop_, pool_, handshakes_, std::move(below), tls_,
                                std::chrono::seconds(10));
    stream_->SetOwner(this);
    while (!octets.empty() && !ended_) {
      std::string_view part = octets.substr(0, std::min(piece, octets.size()));
      octets.remove_prefix(part.size());
      played.Come(part);
      TG_CHECK(stream_->readable().empty() || stream_->handshake_done());
      TG_CHECK(ERR_peek_error() == 0);
    }
    if (!ended_) {
      played.End(Stream::ReadState::kEnded);
    }
    // No input can hold the answer to our key share.
    TG_CHECK(ended_ && stream_->handshake_error().has_value());
    TG_CHECK(stream_->Write({}) == Stream::WriteStatus::kFailed);
    stream_.reset();
    TG_CHECK(ERR_peek_error() == 0);
  }

 private:
  void OnReadable() override { ended_ = stream_->read_state() != Stream::ReadState::kOpen; }
  void OnWritten() override {}

  Loop loop_;
  BufferPool pool_;
  // Nobody waits in line: time stands still.
  Handshakes handshakes_{loop_, [] { return std::uint64_t{0}; }};
  std::shared_ptr<const CertificateStore> certificates_;
  TicketKeys keys_;
  std::shared_ptr<const ServerTls> tls_;
  std::unique_ptr<TlsStream> stream_;
  bool ended_ = false;
};

}  // namespace
}  // namespace tidegate

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // Never destroyed: the loop's destructor wants handles closed that live as long as the process.
  static auto* rig = new tidegate::Rig;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  rig->LookUp(input);
  rig->Play(input);
  return 0;
}
