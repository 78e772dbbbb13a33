#pragma once

// Reads octets whole, octet by octet and cut in two at every place; all must give the same.

#include <string>
#include <string_view>

#include <gtest/gtest.h>

#include "tests/support/h1_transcript.h"

namespace tidegate::h1_transcript {

template <class Read>
Transcript EveryWay(std::string_view input, const Options& options, const Read& read) {
  const Transcript whole = read(input, options, Cut(Whole));
  EXPECT_EQ(read(input, options, Cut(OctetByOctet)).Text(), whole.Text())
      << "octet by octet: " << input;
  for (std::size_t size = 1; size < input.size(); ++size) {
    EXPECT_EQ(read(input, options, After(size)).Text(), whole.Text())
        << "cut after " << size << ": " << input;
  }
  return whole;
}

inline Transcript Requests(std::string_view input, const Options& options = {}) {
  return EveryWay(input, options, ReadRequests);
}
inline Transcript Responses(std::string_view input, const Options& options = {}) {
  return EveryWay(input, options, ReadResponses);
}

}  // namespace tidegate::h1_transcript
