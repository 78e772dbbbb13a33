# What an installed Tidegate consists of; the packages are made of it (packaging/build), and `cmake --install` puts it elsewhere.

include(GNUInstallDirs)
option(TIDEGATE_NOTIFY_RELOAD "A drop-in with Type=notify-reload, for systemd 253 and newer" OFF)

set(generated "${CMAKE_BINARY_DIR}/share")
# FILE ARGUMENTS...: what the program itself says, kept in FILE.
function(tidegate_said file)
  add_custom_command(OUTPUT "${generated}/${file}"
    COMMAND ${CMAKE_COMMAND} -E make_directory "${generated}"
    COMMAND tidegate ${ARGN} > "${generated}/${file}"
    DEPENDS tidegate VERBATIM)
endfunction()
tidegate_said(tidegate.bash completion bash)
tidegate_said(_tidegate completion zsh)
tidegate_said(tidegate.fish completion fish)
tidegate_said(tidegate.schema.json schema)
add_custom_target(shared_files ALL DEPENDS "${generated}/tidegate.bash" "${generated}/_tidegate" "${generated}/tidegate.fish"
                  "${generated}/tidegate.schema.json")

set(TIDEGATE_ZSH_DIR "${CMAKE_INSTALL_DATADIR}/zsh/site-functions" CACHE STRING "Where zsh looks for completions")
set(TIDEGATE_UNIT_DIR "lib/systemd/system" CACHE STRING "Where systemd looks for units")

install(TARGETS tidegate DESTINATION ${CMAKE_INSTALL_SBINDIR})
install(TARGETS tidegate-worker DESTINATION ${CMAKE_INSTALL_LIBEXECDIR}/tidegate)
install(PROGRAMS packaging/after-upgrade DESTINATION ${CMAKE_INSTALL_LIBEXECDIR}/tidegate)
install(FILES "${generated}/tidegate.bash" DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME tidegate)
install(FILES "${generated}/_tidegate" DESTINATION ${TIDEGATE_ZSH_DIR})
install(FILES "${generated}/tidegate.fish" DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
foreach(page IN LISTS TIDEGATE_MAN_PAGES)
  string(REGEX REPLACE ".*\\." "" section "${page}")
  install(FILES "${page}" DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section})
endforeach()
install(FILES "${generated}/tidegate.schema.json" DESTINATION ${CMAKE_INSTALL_DATADIR}/tidegate)

file(GLOB examples CONFIGURE_DEPENDS packaging/examples/*.json)
install(FILES ${examples} DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples)
install(FILES packaging/tidegate.json DESTINATION ${CMAKE_INSTALL_SYSCONFDIR}/tidegate)
install(DIRECTORY DESTINATION ${CMAKE_INSTALL_SYSCONFDIR}/tidegate/conf.d)
install(FILES packaging/logrotate/tidegate DESTINATION ${CMAKE_INSTALL_SYSCONFDIR}/logrotate.d)

configure_file(packaging/systemd/tidegate.service.in "${generated}/tidegate.service" @ONLY)
install(FILES "${generated}/tidegate.service" packaging/systemd/tidegate.socket DESTINATION ${TIDEGATE_UNIT_DIR})
if(TIDEGATE_NOTIFY_RELOAD)
  install(FILES packaging/systemd/notify-reload.conf DESTINATION ${TIDEGATE_UNIT_DIR}/tidegate.service.d)
endif()
install(FILES packaging/systemd/tidegate.sysusers DESTINATION lib/sysusers.d RENAME tidegate.conf)
