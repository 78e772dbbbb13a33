# Which compilers may build Tidegate, and with which flags.

# g++ 12 miscompiles ordinary coroutine code without a word: frames freed twice, bodies that never reach their end.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 14)
  message(FATAL_ERROR "g++ ${CMAKE_CXX_COMPILER_VERSION} miscompiles coroutines. Use clang 19: "
                      "install the package clang-19 and configure with a preset (cmake --preset release).")
endif()

if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_BUILD_TYPE STREQUAL "Debug")
  message(FATAL_ERROR "The coroutine kernel needs tail calls, which g++ makes only when it optimises: use clang 19 for Debug.")
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
option(TIDEGATE_TRAIN "A worker that writes a profile when it ends, for ./dev train" OFF)

add_library(tidegate_options INTERFACE)
target_compile_definitions(tidegate_options INTERFACE TIDEGATE_VERSION="${PROJECT_VERSION}" _GNU_SOURCE)
target_compile_options(tidegate_options INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wnon-virtual-dtor -Wimplicit-fallthrough -Werror)
if(NOT CMAKE_BUILD_TYPE STREQUAL "Release")
  # A release unwinds by its debug information; a frame pointer costs it 2% of its instructions.
  target_compile_options(tidegate_options INTERFACE -fno-omit-frame-pointer)
endif()
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
  # No -fcf-protection: Debian 12's startup code is not marked for it, so the linker drops the marks of ours, and what is
  # left is an instruction at each entry of a function that no kernel looks for.
  target_compile_options(tidegate_options INTERFACE -fstack-protector-strong -fstack-clash-protection -fno-plt)
  target_link_options(tidegate_options INTERFACE -pie -Wl,-z,relro,-z,now -Wl,-z,noexecstack -fuse-ld=lld)
  target_compile_options(tidegate_options INTERFACE -flto=thin)
  target_link_options(tidegate_options INTERFACE -flto=thin)
  # A call through an interface of ours that has one implementation becomes a direct one. Of ours: classes with hidden
  # visibility. Those of the libraries have implementations that the linker does not see.
  target_compile_options(tidegate_options INTERFACE -fwhole-program-vtables)
  target_link_options(tidegate_options INTERFACE -fwhole-program-vtables)
endif()
# What these builds do beside their work (proxy/confinement.h) a confined worker may not.
if(TIDEGATE_ASAN OR TIDEGATE_TSAN)
  target_compile_definitions(tidegate_options INTERFACE TIDEGATE_UNCONFINED="a build with sanitizers")
elseif(TIDEGATE_TRAIN)
  target_compile_definitions(tidegate_options INTERFACE TIDEGATE_UNCONFINED="a build for training")
endif()
if(TIDEGATE_FUZZ)
  target_compile_options(tidegate_options INTERFACE -fsanitize=fuzzer-no-link)
endif()

# A Release build by Clang is optimised by a profile of the worker under load, proxy/worker.profdata, that ./dev train writes.
# It is data: a function that it does not know, or that has changed since, is compiled as without it, and without a word.
# A tree without the file is built without it. Older Clangs cannot read what Clang 19 has written.
add_library(tidegate_profile INTERFACE)
set(tidegate_profile_file)
if(CMAKE_BUILD_TYPE STREQUAL "Release" AND CMAKE_CXX_COMPILER_ID STREQUAL "Clang"
   AND CMAKE_CXX_COMPILER_VERSION VERSION_GREATER_EQUAL 19 AND NOT TIDEGATE_ASAN AND NOT TIDEGATE_TSAN AND NOT TIDEGATE_FUZZ)
  # A glob, so that CMake runs again when the file comes or goes.
  file(GLOB tidegate_profile_file CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/proxy/worker.profdata")
  if(TIDEGATE_TRAIN)
    set(tidegate_profile_file)
    target_compile_options(tidegate_profile INTERFACE -fprofile-generate)
    target_link_options(tidegate_profile INTERFACE -fprofile-generate)
  elseif(tidegate_profile_file)
    target_compile_options(tidegate_profile INTERFACE "-fprofile-use=${tidegate_profile_file}"
      -Wno-profile-instr-unprofiled -Wno-profile-instr-out-of-date -Wno-backend-plugin)
  endif()
  # What is local to a file is known in the profile by the file's name; with its folder it would fit this clone only.
  if(TIDEGATE_TRAIN OR tidegate_profile_file)
    target_compile_options(tidegate_profile INTERFACE "SHELL:-mllvm -static-func-full-module-prefix=false")
  endif()
elseif(TIDEGATE_TRAIN)
  message(FATAL_ERROR "TIDEGATE_TRAIN needs a Release build by Clang 19 or newer, without sanitizers.")
endif()

# The sources of `target` are compiled with the profile, and again when it changes.
function(tidegate_profiled target)
  target_link_libraries(${target} PRIVATE tidegate_profile)
  get_target_property(sources ${target} SOURCES)
  set_source_files_properties(${sources} PROPERTIES OBJECT_DEPENDS "${tidegate_profile_file}")
endfunction()
