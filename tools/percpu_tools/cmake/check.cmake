# Checks a kernel right behind its link: cmake -P check.cmake error|warn KERNEL FOLDER percpu-check OPTIONS...
#
# Writes the report to FOLDER/check.txt. With `error`, a kernel that is refused is moved to FOLDER: left where it
# is, it would be taken for the result of a good link the next time.

set(mode "${CMAKE_ARGV3}")
set(kernel "${CMAKE_ARGV4}")
set(folder "${CMAKE_ARGV5}")
set(command "")
math(EXPR last "${CMAKE_ARGC} - 1")
foreach(number RANGE 6 ${last})
  list(APPEND command "${CMAKE_ARGV${number}}")
endforeach()

execute_process(COMMAND ${command} "${kernel}" RESULT_VARIABLE status OUTPUT_VARIABLE report ERROR_VARIABLE complaint)
file(WRITE "${folder}/check.txt" "${report}")
if(NOT status EQUAL 0)
  message("${report}${complaint}")
  if(mode STREQUAL "error")
    get_filename_component(name "${kernel}" NAME)
    file(RENAME "${kernel}" "${folder}/${name}")
    message(FATAL_ERROR "percpu-check refuses ${name}; it is kept as ${folder}/${name}")
  endif()
endif()
