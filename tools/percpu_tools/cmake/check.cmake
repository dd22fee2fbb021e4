# Checks a kernel right behind its link: cmake -P check.cmake error|warn KERNEL FOLDER READ percpu-check OPTIONS...
#
# Writes the report to FOLDER/check.txt. With `error`, a kernel that does not pass is moved to FOLDER: left where it
# is, it would be taken for the result of a good link the next time. READ is for the build alone: what the check reads.

set(mode "${CMAKE_ARGV3}")
set(kernel "${CMAKE_ARGV4}")
set(folder "${CMAKE_ARGV5}")
set(command "")
math(EXPR last "${CMAKE_ARGC} - 1")
foreach(number RANGE 7 ${last})
  list(APPEND command "${CMAKE_ARGV${number}}")
endforeach()

execute_process(COMMAND ${command} "${kernel}" RESULT_VARIABLE status OUTPUT_VARIABLE report ERROR_VARIABLE complaint)
file(WRITE "${folder}/check.txt" "${report}")
get_filename_component(name "${kernel}" NAME)
set(kept "${folder}/${name}")
# An earlier link's.
file(REMOVE "${kept}")
if(NOT status EQUAL 0)
  message("${report}${complaint}")
  if(mode STREQUAL "error")
    file(RENAME "${kernel}" "${kept}")
    # Anything but 1 is not about the kernel.
    if(status EQUAL 1)
      set(verdict "refuses")
    else()
      set(verdict "cannot judge")
    endif()
    message(FATAL_ERROR "percpu-check ${verdict} ${name}; it is kept as ${kept}")
  endif()
endif()
