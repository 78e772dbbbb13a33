# Every library comes from a Debian package; a missing one is named, with the command that installs it.

find_package(PkgConfig REQUIRED)

function(tidegate_missing package)
  message(FATAL_ERROR "${package} is missing. Install it (apt-get install ${package}) or run ./dev setup.")
endfunction()

function(tidegate_pkg_config target module package)
  pkg_check_modules(FOUND_${module} QUIET IMPORTED_TARGET ${module})
  if(NOT FOUND_${module}_FOUND)
    tidegate_missing(${package})
  endif()
  add_library(${target} ALIAS PkgConfig::FOUND_${module})
endfunction()

tidegate_pkg_config(uv::uv libuv libuv1-dev)
tidegate_pkg_config(cares::cares libcares libc-ares-dev)
tidegate_pkg_config(OpenSSL::SSL libssl libssl-dev)
tidegate_pkg_config(OpenSSL::Crypto libcrypto libssl-dev)

tidegate_pkg_config(nghttp2::nghttp2 libnghttp2 libnghttp2-dev)
# Of 1.61, and of Debian 12's 1.52 with its security updates: without it nobody bounds CONTINUATION (CVE-2024-28182).
include(CheckCXXSourceCompiles)
set(CMAKE_REQUIRED_LIBRARIES PkgConfig::FOUND_libnghttp2)
check_cxx_source_compiles("#include <nghttp2/nghttp2.h>
  int main() { nghttp2_option_set_max_continuations(nullptr, 1); }" TIDEGATE_NGHTTP2_BOUNDS_CONTINUATIONS)
unset(CMAKE_REQUIRED_LIBRARIES)
if(NOT TIDEGATE_NGHTTP2_BOUNDS_CONTINUATIONS)
  message(FATAL_ERROR "This nghttp2 does not bound CONTINUATION frames (CVE-2024-28182): install libnghttp2-dev with the security updates of the distribution.")
endif()

find_package(fmt QUIET)
if(NOT fmt_FOUND)
  tidegate_missing(libfmt-dev)
endif()
find_package(nlohmann_json QUIET)
if(NOT nlohmann_json_FOUND)
  tidegate_missing(nlohmann-json3-dev)
endif()
find_package(CLI11 QUIET)
if(NOT CLI11_FOUND)
  tidegate_missing(libcli11-dev)
endif()
find_package(GTest QUIET)
if(NOT GTest_FOUND)
  tidegate_missing(libgtest-dev)
endif()

# Static, because Debian 12 has no libllhttp at run time.
find_library(LLHTTP_STATIC_LIBRARY libllhttp.a)
find_path(LLHTTP_INCLUDE_DIR llhttp.h)
if(NOT LLHTTP_STATIC_LIBRARY OR NOT LLHTTP_INCLUDE_DIR)
  tidegate_missing(libllhttp-dev)
endif()
file(STRINGS "${LLHTTP_INCLUDE_DIR}/llhttp.h" llhttp_version REGEX "^#define LLHTTP_VERSION_M(AJOR|INOR) ")
string(REGEX REPLACE "[^0-9]*([0-9]+)[^0-9]+([0-9]+).*" "\\1.\\2" llhttp_version "${llhttp_version}")
if(llhttp_version VERSION_LESS 9.2)
  message(FATAL_ERROR "llhttp ${llhttp_version} in ${LLHTTP_INCLUDE_DIR} is too old: 9.2 or newer is needed (libllhttp-dev).")
endif()
add_library(llhttp::llhttp STATIC IMPORTED)
set_target_properties(llhttp::llhttp PROPERTIES IMPORTED_LOCATION "${LLHTTP_STATIC_LIBRARY}"
                      INTERFACE_INCLUDE_DIRECTORIES "${LLHTTP_INCLUDE_DIR}")
