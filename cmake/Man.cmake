# The manual pages: man/NAME.scd becomes build/PRESET/man/NAME. TIDEGATE_MAN_PAGES has their paths, for who installs them.
#
# Parts of them are what our tables say (man/page.h); a page that says something else stops the build. `man_write` puts the
# sources right. The programs do not wait for any of this.

find_program(SCDOC scdoc)
if(NOT SCDOC)
  tidegate_missing(scdoc)
endif()

# The date in a page is not the day of the build: two builds of one tree give the same octets. It is SOURCE_DATE_EPOCH, as
# package tools set it; else the last commit's; and in a tree without git, where a release says what is new, that file's.
set(tidegate_man_seconds "$ENV{SOURCE_DATE_EPOCH}")
if(NOT tidegate_man_seconds)
  execute_process(COMMAND git -C "${CMAKE_SOURCE_DIR}" -c safe.directory=* log -1 --format=%ct
                  OUTPUT_VARIABLE tidegate_man_seconds OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
if(NOT tidegate_man_seconds)
  file(TIMESTAMP "${CMAKE_SOURCE_DIR}/CHANGELOG.md" tidegate_man_seconds "%s" UTC)
endif()

tidegate_library(tidegate_man FOLDERS man LINKS tidegate_supervisor)
add_executable(man_text man/main.cpp)
target_link_libraries(man_text PRIVATE tidegate_man)
set_target_properties(man_text PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/man-tools")

file(GLOB tidegate_man_sources CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/man/*.scd")
set(TIDEGATE_MAN_PAGES)
file(MAKE_DIRECTORY "${CMAKE_BINARY_DIR}/man")
foreach(source IN LISTS tidegate_man_sources)
  get_filename_component(page "${source}" NAME_WLE)
  set(page "${CMAKE_BINARY_DIR}/man/${page}")
  add_custom_command(
    OUTPUT "${page}"
    COMMAND man_text --check "${source}"
    COMMAND "${CMAKE_SOURCE_DIR}/man/render" "${source}" "${PROJECT_VERSION}" "${tidegate_man_seconds}" > "${page}.new"
    COMMAND ${CMAKE_COMMAND} -E rename "${page}.new" "${page}"
    DEPENDS "${source}" "${CMAKE_SOURCE_DIR}/man/render" man_text
    COMMENT "Manual page ${page}" VERBATIM)
  list(APPEND TIDEGATE_MAN_PAGES "${page}")
endforeach()
add_custom_target(man_pages ALL DEPENDS ${TIDEGATE_MAN_PAGES})
add_custom_target(man_write COMMAND man_text --write ${tidegate_man_sources} VERBATIM)
