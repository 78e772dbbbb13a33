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
add_library(llhttp::llhttp STATIC IMPORTED)
set_target_properties(llhttp::llhttp PROPERTIES IMPORTED_LOCATION "${LLHTTP_STATIC_LIBRARY}"
                      INTERFACE_INCLUDE_DIRECTORIES "${LLHTTP_INCLUDE_DIR}")
