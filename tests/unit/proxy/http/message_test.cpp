#include "proxy/http/message.h"

#include <gtest/gtest.h>

namespace tidegate {
namespace {

TEST(Methods, AreCaseSensitive) {
  EXPECT_EQ(MethodOf("GET"), Method::kGet);
  EXPECT_EQ(MethodOf("HEAD"), Method::kHead);
  EXPECT_EQ(MethodOf("POST"), Method::kPost);
  EXPECT_EQ(MethodOf("PUT"), Method::kPut);
  EXPECT_EQ(MethodOf("DELETE"), Method::kDelete);
  EXPECT_EQ(MethodOf("CONNECT"), Method::kConnect);
  EXPECT_EQ(MethodOf("OPTIONS"), Method::kOptions);
  EXPECT_EQ(MethodOf("TRACE"), Method::kTrace);
  EXPECT_EQ(MethodOf("PATCH"), Method::kPatch);
  EXPECT_EQ(MethodOf("get"), Method::kOther);
  EXPECT_EQ(MethodOf(""), Method::kOther);
  EXPECT_EQ(MethodOf("PROPFIND"), Method::kOther);
}

TEST(Methods, IdempotentOnesAreThoseOfRfc9110) {
  for (const Method method : {Method::kGet, Method::kHead, Method::kPut, Method::kDelete,
                              Method::kOptions, Method::kTrace}) {
    EXPECT_TRUE(IsIdempotent(method));
  }
  for (const Method method : {Method::kPost, Method::kPatch, Method::kConnect, Method::kOther}) {
    EXPECT_FALSE(IsIdempotent(method));
  }
}

TEST(RequestHeads, SplitTheTarget) {
  struct Case {
    const char* target;
    const char* path;
    const char* query;
  };
  for (const Case& c : {Case{"/", "/", ""}, Case{"/a?b=c?d", "/a", "b=c?d"}, Case{"/a?", "/a", ""},
                        Case{"*", "*", ""}, Case{"/?x", "/", "x"}}) {
    RequestHead head;
    head.target = c.target;
    EXPECT_EQ(head.path(), c.path) << c.target;
    EXPECT_EQ(head.query(), c.query) << c.target;
  }
}

TEST(RequestHeads, SplitTheAuthority) {
  struct Case {
    const char* authority;
    const char* host;
  };
  for (const Case& c :
       {Case{"a.example:80", "a.example"}, Case{"A", "A"}, Case{"[::1]:8080", "[::1]"},
        Case{"[2001:db8::1]", "[2001:db8::1]"}, Case{"127.0.0.1:", "127.0.0.1"}, Case{"", ""}}) {
    RequestHead head;
    head.authority = c.authority;
    EXPECT_EQ(head.host(), c.host) << c.authority;
  }
}

TEST(RequestHeads, AreAsNewAfterClear) {
  RequestHead head;
  head.method = Method::kPost;
  head.method_name = "POST";
  head.target = "/x";
  head.authority = "a";
  head.expects_continue = true;
  head.fields.Add("A", "b");
  head.trailers.Add("A", "b");
  head.body = BodyKind::kLength;
  head.content_length = 7;
  head.minor_version = 0;
  head.keep_alive = false;
  head.upgrade = "x";
  head.Clear();
  EXPECT_EQ(head.method, Method::kOther);
  EXPECT_TRUE(head.method_name.empty() && head.target.empty() && head.authority.empty() &&
              head.upgrade.empty());
  EXPECT_FALSE(head.expects_continue);
  EXPECT_TRUE(head.fields.empty() && head.trailers.empty());
  EXPECT_EQ(head.body, BodyKind::kNone);
  EXPECT_EQ(head.content_length, 0U);
  EXPECT_EQ(head.minor_version, 1);
  EXPECT_TRUE(head.keep_alive);
}

TEST(ResponseHeads, InterimIsEverything1xxBut101) {
  ResponseHead head;
  for (const int status : {100, 102, 103, 199}) {
    head.status = status;
    EXPECT_TRUE(head.IsInterim()) << status;
  }
  for (const int status : {101, 200, 404, 999}) {
    head.status = status;
    EXPECT_FALSE(head.IsInterim()) << status;
  }
  head.reason = "x";
  head.Clear();
  EXPECT_EQ(head.status, 0);
  EXPECT_TRUE(head.reason.empty());
}

}  // namespace
}  // namespace tidegate
