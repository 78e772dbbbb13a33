# Which compilers may build Tidegate, and with which flags.

# g++ 12 miscompiles ordinary coroutine code without a word: frames freed twice, bodies that never reach their end.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 14)
  message(FATAL_ERROR "g++ ${CMAKE_CXX_COMPILER_VERSION} miscompiles coroutines. Use clang 19: "
                      "install the package clang-19 and configure with a preset (cmake --preset release).")
endif()

set(CMAKE_CXX_STANDARD 23)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g")
set(CMAKE_CXX_FLAGS_DEBUG "-O0 -g")
# The sanitizers' builds: reports need lines only, and instrumented code is what compiling costs most for.
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O1 -gline-tables-only")

option(TIDEGATE_ASAN "AddressSanitizer and UndefinedBehaviorSanitizer" OFF)
option(TIDEGATE_TSAN "ThreadSanitizer" OFF)
option(TIDEGATE_FUZZ "libFuzzer targets" OFF)

add_library(tidegate_options INTERFACE)
target_compile_definitions(tidegate_options INTERFACE TIDEGATE_VERSION="${PROJECT_VERSION}" _GNU_SOURCE)
target_compile_options(tidegate_options INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wnon-virtual-dtor -Wimplicit-fallthrough -Werror
  -fno-omit-frame-pointer)
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  # uv_buf_t and friends are C structs that are meant to be filled in part.
  target_compile_options(tidegate_options INTERFACE -Wno-missing-field-initializers)
endif()

if(TIDEGATE_ASAN)
  target_compile_options(tidegate_options INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all)
  target_link_options(tidegate_options INTERFACE -fsanitize=address,undefined)
elseif(TIDEGATE_TSAN)
  target_compile_options(tidegate_options INTERFACE -fsanitize=thread)
  target_link_options(tidegate_options INTERFACE -fsanitize=thread)
elseif(CMAKE_BUILD_TYPE STREQUAL "Release")
  target_compile_definitions(tidegate_options INTERFACE _FORTIFY_SOURCE=3)
  target_compile_options(tidegate_options INTERFACE -fstack-protector-strong -fstack-clash-protection -fcf-protection)
  target_link_options(tidegate_options INTERFACE -pie -Wl,-z,relro,-z,now -Wl,-z,noexecstack -fuse-ld=lld)
  target_compile_options(tidegate_options INTERFACE -flto=thin)
  target_link_options(tidegate_options INTERFACE -flto=thin)
endif()
if(TIDEGATE_FUZZ)
  target_compile_options(tidegate_options INTERFACE -fsanitize=fuzzer-no-link)
endif()
