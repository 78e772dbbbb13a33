#include "proxy/http/h1_fault.h"

namespace tidegate {

Fault FaultOf(llhttp_errno_t error, std::string_view reason, char octet) {
  switch (error) {
    case HPE_INVALID_METHOD:
      return {ErrorKind::kMethodNotImplemented, "unknown method"};
    case HPE_INVALID_URL:
      return {ErrorKind::kBadTarget, "request target is not valid"};
    case HPE_INVALID_VERSION:
      if (reason != "Invalid HTTP version") {
        return {ErrorKind::kBadRequest, "version is malformed"};
      }
      return {ErrorKind::kVersionNotSupported, "HTTP version other than 1.0 and 1.1"};
    case HPE_INVALID_CONSTANT:
      return {ErrorKind::kBadRequest, "start line without HTTP/1.0 or HTTP/1.1"};
    case HPE_INVALID_STATUS:
      return {ErrorKind::kBadRequest, "status code is not three digits"};
    case HPE_INVALID_HEADER_TOKEN:
      if (reason.contains("value")) {
        return {ErrorKind::kBadRequest, octet == ' ' || octet == '\t'
                                            ? "field value is folded over several lines"
                                            : "field value has an octet that is not allowed"};
      }
      switch (octet) {
        case ':':
          return {ErrorKind::kBadRequest, "field name is empty"};
        case ' ':
        case '\t':
          return {ErrorKind::kBadRequest, "field name has a space before the colon"};
        case '\r':
        case '\n':
          return {ErrorKind::kBadRequest, "field line without a colon"};
        default:
          return {ErrorKind::kBadRequest, "field name has an octet that is not allowed"};
      }
    case HPE_UNEXPECTED_SPACE:
      return {ErrorKind::kBadRequest, "white space before the first field"};
    case HPE_UNEXPECTED_CONTENT_LENGTH:
      return {ErrorKind::kBadRequest, "Content-Length more than once"};
    case HPE_INVALID_CONTENT_LENGTH:
      return {ErrorKind::kBadRequest, reason.contains("Transfer-Encoding")
                                          ? "Content-Length with Transfer-Encoding"
                                          : "Content-Length is not a number of octets"};
    case HPE_INVALID_TRANSFER_ENCODING:
      return {ErrorKind::kBadRequest, reason.contains("Content-Length")
                                          ? "Content-Length with Transfer-Encoding"
                                          : "Transfer-Encoding other than chunked"};
    case HPE_INVALID_CHUNK_SIZE:
      return {ErrorKind::kBadRequest, "chunk size is not a hexadecimal number"};
    case HPE_CR_EXPECTED:
      return {ErrorKind::kBadRequest, "line feed without carriage return"};
    case HPE_LF_EXPECTED:
    case HPE_STRICT:
      return {ErrorKind::kBadRequest, "line does not end as it must"};
    default:
      return {ErrorKind::kBadRequest, "message is malformed"};
  }
}

}  // namespace tidegate
