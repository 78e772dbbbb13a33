// The rules are tried through the decoder (h1_decoder_*_test.cpp); here: what cannot be reached
// through it, and what each function promises by itself.

#include "proxy/http/h1_rules.h"

#include <string>

#include <gtest/gtest.h>

namespace tidegate {
namespace {

TEST(JudgingMethods, FillsStaticText) {
  RequestHead head;
  {
    const std::string name = "PURGE";
    EXPECT_FALSE(JudgeMethod(name, head));
  }
  EXPECT_EQ(head.method, Method::kOther);
  EXPECT_EQ(head.method_name, "PURGE");
  EXPECT_FALSE(JudgeMethod("DELETE", head));
  EXPECT_EQ(head.method, Method::kDelete);
}

TEST(JudgingMethods, RefusesWhatIsNotServed) {
  RequestHead head;
  EXPECT_EQ(JudgeMethod("CONNECT", head)->kind, ErrorKind::kMethodNotAllowed);
  for (const char* name : {"SOURCE", "PRI", "PLAY", "GETT", "", "get"}) {
    EXPECT_EQ(JudgeMethod(name, head)->kind, ErrorKind::kMethodNotImplemented) << name;
  }
}

TEST(JudgingTargets, RefusesEveryForbiddenOctet) {
  for (int octet = 0; octet < 256; ++octet) {
    RequestHead head;
    head.method = Method::kGet;
    const std::string target = std::string("/a") + static_cast<char>(octet) + "b";
    head.target = target;
    const bool allowed = octet > 0x20 && octet < 0x7f && octet != '#';
    EXPECT_EQ(JudgeTarget(head).has_value(), !allowed) << octet;
  }
}

TEST(JudgingRequests, KeepsHostEqualToTheAuthority) {
  RequestHead head;
  head.fields.Add("HOST", "a");
  head.authority = "b:1";
  EXPECT_FALSE(JudgeRequest(head));
  EXPECT_EQ(head.fields.Find(FieldId::kHost)->value, "b:1");
  EXPECT_EQ(head.fields.Find(FieldId::kHost)->name, "HOST");
}

TEST(JudgingRequests, RefusesALengthThatOverflows) {
  RequestHead head;
  head.fields.Add("Host", "a");
  head.fields.Add("Content-Length", "18446744073709551616");
  EXPECT_EQ(JudgeRequest(head)->kind, ErrorKind::kBadRequest);
}

TEST(JudgingResponses, HasFaultsOfTheUpstreamOnly) {
  for (const char* coding : {"gzip", "gzip, chunked"}) {
    ResponseHead head;
    head.status = 200;
    head.fields.Add("Transfer-Encoding", coding);
    EXPECT_EQ(JudgeResponse(head, Method::kGet)->kind, ErrorKind::kUpstreamBadResponse);
  }
}

TEST(BodilessResponses, AreThoseOfRfc9112) {
  for (const int status : {100, 101, 103, 199, 204, 304}) {
    EXPECT_TRUE(HasNoBody(status, Method::kGet)) << status;
  }
  for (const int status : {200, 203, 205, 303, 305, 404, 999}) {
    EXPECT_FALSE(HasNoBody(status, Method::kGet)) << status;
    EXPECT_TRUE(HasNoBody(status, Method::kHead)) << status;
  }
}

TEST(TrailerRules, ForbidFramingAndRouting) {
  for (const FieldId id :
       {FieldId::kConnection, FieldId::kContentLength, FieldId::kHost, FieldId::kTransferEncoding,
        FieldId::kTe, FieldId::kTrailer, FieldId::kUpgrade, FieldId::kXForwardedFor}) {
    EXPECT_TRUE(IsForbiddenInTrailers(id));
  }
  for (const FieldId id : {FieldId::kOther, FieldId::kDate, FieldId::kServer}) {
    EXPECT_FALSE(IsForbiddenInTrailers(id));
  }
}

}  // namespace
}  // namespace tidegate
