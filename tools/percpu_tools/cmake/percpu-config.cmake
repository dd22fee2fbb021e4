# Per-CPU data for C++ kernels in CMake, as the SCons tool does it.
#
#   find_package(percpu REQUIRED)         percpu_DIR is what `percpu-config --cmakedir` prints
#   add_executable(kernel.elf main.cpp)
#   target_link_options(kernel.elf PRIVATE -nostdlib LINKER:-T,${CMAKE_CURRENT_SOURCE_DIR}/kernel.ld)
#   percpu_target(kernel.elf CPU_NUM 4)
#
# percpu_target(TARGET ...) makes a kernel of an executable of this folder. It adds the runtime, renders the
# fragment, links it beside the target's own scripts, and checks the result; a finding fails the build, and
# the kernel is then not there to be used. A change of CPU_NUM links and checks again, and compiles nothing.
# For a library only the headers and the macros are added: say the same FEATURES for it as for the kernel. An INTERFACE
# library hands them to what links it.
#
# percpu-check runs in the folder of the CMakeLists.txt: relative paths among its options begin there, and percpu.toml
# or pyproject.toml is looked for there and above. When what it reads changes, the kernel is linked and checked again;
# only of files that generator expressions name the build does not know.
#
#   CPU_NUM N             number of CPUs; an executable must have it
#   FEATURES F...         preempt, non-zero-vma, ... (`percpu-ldscript render --help`)
#   ARCH ARCH             where generator expressions say what the compiler builds for
#   LINKER ld|lld         where it is not what the compiler says
#   MODE insert|include   include: the target's script says INCLUDE percpu.ld
#   SCRIPT FILE...        the target's linker scripts, where its options do not show them: they are named by a
#                         generator expression, or by a toolchain. They are not added. none: it has none
#   LOAD_OFFSET EXPR      virtual minus physical address
#   REGION NAME           of a script with MEMORY, the region for the areas
#   LOAD_REGION NAME      the region in which the template is and stays (pristine)
#   CACHE_LINE BYTES      in place of the architecture's usual one
#   CHECK error|warn|off  what a finding is; error
#   CHECK_OPTIONS O...    options for percpu-check
#
# It looks at the options of the target, and of the libraries that it links, when the folder has been read to its end,
# so they may be set behind it.

if(CMAKE_VERSION VERSION_LESS 3.20)
  set(percpu_FOUND FALSE)
  set(percpu_NOT_FOUND_MESSAGE "percpu needs CMake 3.20 or later: this is ${CMAKE_VERSION}")
  return()
endif()

# The commands that were installed with this file: in a virtual environment they lie five folders above.
foreach(command IN ITEMS check config ldscript)
  string(TOUPPER "PERCPU_${command}" variable)
  find_program(${variable} percpu-${command} HINTS "${CMAKE_CURRENT_LIST_DIR}/../../../../../bin")
  if(NOT ${variable})
    set(percpu_FOUND FALSE)
    set(percpu_NOT_FOUND_MESSAGE "percpu-${command} is not on the PATH: install percpu-tools, or set ${variable}")
    return()
  endif()
endforeach()

set(_PERCPU_CMAKE_FOLDER "${CMAKE_CURRENT_LIST_DIR}")
set(_PERCPU_ONE_VALUE CPU_NUM ARCH LINKER MODE LOAD_OFFSET REGION LOAD_REGION CACHE_LINE CHECK)
set(_PERCPU_VALUES FEATURES SCRIPT CHECK_OPTIONS)

function(percpu_target target)
  if(NOT TARGET ${target})
    message(FATAL_ERROR "percpu_target: there is no target ${target}: call it behind add_executable(${target} ...)")
  endif()
  get_target_property(folder ${target} SOURCE_DIR)
  if(NOT folder STREQUAL CMAKE_CURRENT_SOURCE_DIR)
    message(FATAL_ERROR "percpu_target: ${target} is a target of ${folder}: call it in the CMakeLists.txt there")
  endif()
  get_target_property(again ${target} PERCPU_TARGET)
  if(again)
    message(FATAL_ERROR "percpu_target: ${target} was given before: say everything in one call")
  endif()
  set_target_properties(${target} PROPERTIES PERCPU_TARGET TRUE)
  cmake_parse_arguments(PARSE_ARGV 1 given "" "${_PERCPU_ONE_VALUE}" "${_PERCPU_VALUES}")
  if(given_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "percpu_target(${target}): ${given_UNPARSED_ARGUMENTS}: no such argument")
  endif()
  set(checks "" error warn off)
  if(NOT "${given_CHECK}" IN_LIST checks)
    message(FATAL_ERROR "percpu_target(${target}): CHECK is ${given_CHECK}: expected error, warn or off")
  endif()
  # Arguments of a deferred call are evaluated when it is done; these must be as they are now.
  cmake_language(EVAL CODE "cmake_language(DEFER CALL _percpu_finish [==[${ARGV}]==])")
endfunction()

function(_percpu_finish arguments)
  list(POP_FRONT arguments target)
  cmake_parse_arguments(given "" "${_PERCPU_ONE_VALUE}" "${_PERCPU_VALUES}" ${arguments})
  get_target_property(type ${target} TYPE)
  _percpu_arch(${target})
  _percpu_ask(defines ${target} --defines ${given_ARCH} ${given_FEATURES})
  separate_arguments(defines UNIX_COMMAND "${defines}")
  if(given_CACHE_LINE)
    list(APPEND defines PERCPU_CACHE_LINE=${given_CACHE_LINE})
  endif()
  _percpu_ask(includes ${target} --includes)
  string(REGEX REPLACE "^-I" "" includes "${includes}")
  if(type STREQUAL "INTERFACE_LIBRARY")
    set(scope INTERFACE)
  else()
    set(scope PRIVATE)
  endif()
  target_compile_definitions(${target} ${scope} ${defines})
  target_include_directories(${target} ${scope} "${includes}")

  if(NOT type STREQUAL "EXECUTABLE")
    return()
  endif()
  if("${given_CPU_NUM}" STREQUAL "")
    message(FATAL_ERROR "percpu_target(${target}): CPU_NUM is not given: say percpu_target(${target} CPU_NUM 4)")
  endif()
  _percpu_ask(sources ${target} --sources)
  string(REPLACE "\n" ";" sources "${sources}")
  _percpu_fragment(${target})
  target_sources(${target} PRIVATE ${sources} "${fragment}")
  _percpu_link(${target})
  _percpu_check(${target})
endfunction()

# Sets `given_ARCH` to what the compiler builds for, unless it was said: then it must be that.
macro(_percpu_arch target)
  _percpu_compile_command(${target})
  if(NOT given_ARCH)
    _percpu_ask(given_ARCH ${target} --arch-of ${compiler})
  elseif(NOT compiler_unknown)
    execute_process(
      COMMAND "${PERCPU_CONFIG}" --arch-of ${compiler}
      RESULT_VARIABLE status OUTPUT_VARIABLE arch ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
    # One that does not answer may still be right.
    if(status EQUAL 0 AND NOT arch STREQUAL given_ARCH)
      message(FATAL_ERROR "percpu_target(${target}): ARCH is ${given_ARCH}, and the compiler ${CMAKE_CXX_COMPILER} "
        "builds for ${arch}: set CMAKE_CXX_COMPILER to one for ${given_ARCH}, or leave ARCH out")
    endif()
  endif()
endmacro()

# Sets `fragment`, the file that the linker reads, and `scripts`, the target's own.
macro(_percpu_fragment target)
  set(folder "${CMAKE_CURRENT_BINARY_DIR}/${target}.percpu")
  # With what the check leaves there.
  set_property(TARGET ${target} APPEND PROPERTY ADDITIONAL_CLEAN_FILES "${folder}")
  set(fragment "${folder}/percpu.ld")
  _percpu_link_options(${target})
  _percpu_command(link "${link_flags}" ${link_options})
  if(NOT given_LINKER)
    _percpu_ask(given_LINKER ${target} --linker-of ${link})
  endif()
  if(NOT given_MODE)
    set(given_MODE insert)
  endif()
  _percpu_scripts(${target})

  set(render render --cpu-num ${given_CPU_NUM} --arch ${given_ARCH} --linker ${given_LINKER} --mode ${given_MODE})
  foreach(pair IN ITEMS load-offset:LOAD_OFFSET region:REGION load-region:LOAD_REGION cache-line:CACHE_LINE)
    string(REPLACE ":" ";" pair ${pair})
    list(GET pair 0 option)
    list(GET pair 1 value)
    if(NOT "${given_${value}}" STREQUAL "")
      list(APPEND render --${option} "${given_${value}}")
    endif()
  endforeach()
  foreach(feature IN LISTS given_FEATURES)
    list(APPEND render --feature ${feature})
  endforeach()
  foreach(script IN LISTS scripts)
    list(APPEND render --script "${script}")
  endforeach()
  # Where the linker looks for what a script INCLUDEs.
  set(before "")
  foreach(word IN LISTS link_folders link)
    if(word IN_LIST link_folders OR before STREQUAL "-L")
      set(place "${word}")
    elseif(word MATCHES "^(-Wl,)?(-L|--library-path=),?([^,]+)$")
      set(place "${CMAKE_MATCH_3}")
    else()
      set(place "")
    endif()
    # Where a relative one begins, only the build system knows.
    if(IS_ABSOLUTE "${place}")
      list(APPEND render -L "${place}")
    endif()
    set(before "${word}")
  endforeach()
  add_custom_command(
    OUTPUT "${fragment}"
    # Ninja makes the folders of what it builds, make does not.
    COMMAND "${CMAKE_COMMAND}" -E make_directory "${folder}"
    COMMAND "${PERCPU_LDSCRIPT}" ${render} -o "${fragment}" --depfile "${fragment}.d"
    DEPENDS ${scripts}
    DEPFILE "${fragment}.d"
    COMMENT "Rendering ${target}.percpu/percpu.ld for ${given_CPU_NUM} CPUs"
    VERBATIM)
endmacro()

# Sets `scripts`, the target's own.
macro(_percpu_scripts target)
  if(given_SCRIPT STREQUAL "none")
    set(scripts "")
  elseif(given_SCRIPT)
    set(scripts "")
    foreach(script IN LISTS given_SCRIPT)
      get_filename_component(script "${script}" ABSOLUTE)
      list(APPEND scripts "${script}")
    endforeach()
  else()
    _percpu_ask(scripts ${target} --scripts-of ${link})
    string(REPLACE "\n" ";" scripts "${scripts}")
    foreach(script IN LISTS scripts)
      if(NOT IS_ABSOLUTE "${script}")
        message(FATAL_ERROR "percpu_target(${target}): the linker script ${script} is named by a relative path, "
          "and the linker runs in the build folder: write \${CMAKE_CURRENT_SOURCE_DIR}/${script}")
      endif()
    endforeach()
    if(link_unknown AND NOT scripts)
      message(WARNING "percpu_target(${target}): no linker script is found among the link options, and what these "
        "generator expressions say is not known yet: ${link_unknown}\n"
        "If the script is named there, say it here, too: percpu_target(${target} SCRIPT kernel.ld ...). "
        "If the target has none: percpu_target(${target} SCRIPT none ...).")
    endif()
  endif()
endmacro()

macro(_percpu_link target)
  set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS "${fragment}" ${scripts})
  if(given_MODE STREQUAL "include")
    target_link_options(${target} BEFORE PRIVATE "-L${folder}")
  else()
    # GNU ld must read the fragment before the script that it is inserted into.
    _percpu_command(flags "${link_flags}" "-Wl,-T,${fragment}" ${link_options})
    _percpu_ask(early ${target} --scripts-of ${flags})
    string(REGEX REPLACE "\n.*" "" early "${early}")
    if(given_LINKER STREQUAL "ld" AND NOT early STREQUAL fragment)
      message(FATAL_ERROR "percpu_target(${target}): CMAKE_EXE_LINKER_FLAGS or LINK_FLAGS names the linker script "
        "${early}, which GNU ld would read before the fragment: name it in target_link_options(${target} ...)")
    endif()
    target_link_options(${target} BEFORE PRIVATE "LINKER:-T,${fragment}")
  endif()
endmacro()

macro(_percpu_check target)
  if("${given_CHECK}" STREQUAL "")
    set(given_CHECK error)
  endif()
  if(NOT given_CHECK STREQUAL "off")
    _percpu_check_inputs(${target})
    add_custom_command(
      TARGET ${target} POST_BUILD
      COMMAND "${CMAKE_COMMAND}" -P "${_PERCPU_CMAKE_FOLDER}/check.cmake" ${given_CHECK}
        "$<TARGET_FILE:${target}>" "${folder}" "${read}"
        "${PERCPU_CHECK}" --cpu-num ${given_CPU_NUM} ${given_CHECK_OPTIONS}
      WORKING_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}"
      COMMENT "Checking ${target}"
      VERBATIM)
  endif()
endmacro()

# Has the target linked again when a file changes that the check reads: sets `read` to those that are there. CMake runs
# again when they become others, of which the build hears by the command that names them.
macro(_percpu_check_inputs target)
  _percpu_plain(options ignored "${given_CHECK_OPTIONS}")
  execute_process(
    COMMAND "${PERCPU_CONFIG}" --check-files ${options}
    WORKING_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}"
    OUTPUT_VARIABLE read OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  string(REPLACE "\n" ";" read "${read}")
  set(candidates ${read})
  file(REAL_PATH "${CMAKE_CURRENT_SOURCE_DIR}" place)
  while(TRUE)
    foreach(name IN ITEMS percpu.toml pyproject.toml)
      cmake_path(APPEND place ${name} OUTPUT_VARIABLE candidate)
      list(APPEND candidates "${candidate}")
    endforeach()
    cmake_path(GET place PARENT_PATH above)
    if(above STREQUAL place OR EXISTS "${place}/.git")
      break()
    endif()
    set(place "${above}")
  endwhile()
  # As patterns that match nothing else.
  list(TRANSFORM candidates REPLACE "[[*?]" "[\\0]" OUTPUT_VARIABLE patterns)
  file(GLOB there LIST_DIRECTORIES FALSE CONFIGURE_DEPENDS ${patterns})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${there})
  foreach(file IN LISTS read)
    if(NOT file IN_LIST there)
      list(REMOVE_ITEM read "${file}")
    endif()
  endforeach()
  set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS ${read})
endmacro()

# What percpu-config answers.
function(_percpu_ask answer target)
  execute_process(
    COMMAND "${PERCPU_CONFIG}" ${ARGN}
    RESULT_VARIABLE status OUTPUT_VARIABLE text ERROR_VARIABLE complaint OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "percpu_target(${target}):\n${complaint}")
  endif()
  set(${answer} "${text}" PARENT_SCOPE)
endfunction()

# The compiler's command with `flags`, as on a command line, and then the other arguments.
function(_percpu_command command flags)
  separate_arguments(words UNIX_COMMAND "${CMAKE_CXX_COMPILER_ARG1} ${flags}")
  if(CMAKE_CXX_COMPILER_TARGET)
    list(PREPEND words "--target=${CMAKE_CXX_COMPILER_TARGET}")
  endif()
  set(${command} "${CMAKE_CXX_COMPILER};${words};${ARGN}" PARENT_SCOPE)
endfunction()

# What the target's sources are compiled with: `compiler`, and in `compiler_unknown` the generator expressions that were
# left out and may say for which machine.
function(_percpu_compile_command target)
  get_target_property(type ${target} TYPE)
  set(flags "")
  string(TOUPPER "${CMAKE_BUILD_TYPE}" configuration)
  _percpu_append(flags ${target} COMPILE_FLAGS)
  separate_arguments(options UNIX_COMMAND "${flags}")
  if(type STREQUAL "INTERFACE_LIBRARY")
    _percpu_append(options ${target} INTERFACE_COMPILE_OPTIONS)
  else()
    _percpu_append(options ${target} COMPILE_OPTIONS)
  endif()
  _percpu_libraries(libraries names ${target})
  foreach(library IN LISTS libraries)
    _percpu_append(options ${library} INTERFACE_COMPILE_OPTIONS)
  endforeach()
  _percpu_plain(options unknown "${options}")
  list(FILTER unknown INCLUDE REGEX "-m|-target|\\$<[A-Z_]*(PROPERTY|EVAL)")
  _percpu_plain(names more "${names}")
  _percpu_command(compiler "${CMAKE_CXX_FLAGS} ${CMAKE_CXX_FLAGS_${configuration}}" ${options})
  set(compiler "${compiler}" PARENT_SCOPE)
  set(compiler_unknown ${unknown} ${more} PARENT_SCOPE)
endfunction()

# What CMake links the target with, in the order of its command line: `link_flags`, as on a command line, and the list
# `link_options`; also the list `link_folders`, and in `link_unknown` the generator expressions that were left out.
function(_percpu_link_options target)
  set(flags "${CMAKE_CXX_FLAGS} ${CMAKE_EXE_LINKER_FLAGS}")
  string(TOUPPER "${CMAKE_BUILD_TYPE}" configuration)
  if(configuration)
    string(APPEND flags " ${CMAKE_EXE_LINKER_FLAGS_${configuration}}")
  endif()
  foreach(property IN ITEMS LINK_FLAGS LINK_FLAGS_${configuration})
    get_target_property(value ${target} ${property})
    if(value)
      string(APPEND flags " ${value}")
    endif()
  endforeach()

  foreach(list IN ITEMS options folders)
    set(${list} "")
  endforeach()
  _percpu_append(options ${target} LINK_OPTIONS)
  _percpu_append(folders ${target} LINK_DIRECTORIES)
  _percpu_libraries(libraries names ${target})
  foreach(library IN LISTS libraries)
    _percpu_append(options ${library} INTERFACE_LINK_OPTIONS)
    _percpu_append(folders ${library} INTERFACE_LINK_DIRECTORIES)
  endforeach()
  _percpu_plain(options unknown "${options}")
  _percpu_plain(names more "${names}")
  # The others are files, or names of libraries. CMake does not quote these: `-T kernel.ld` are two words.
  list(FILTER names INCLUDE REGEX "^-")
  list(JOIN names " " names)
  separate_arguments(names UNIX_COMMAND "${names}")
  set(link_flags "${flags}" PARENT_SCOPE)
  set(link_options ${options} ${names} PARENT_SCOPE)
  set(link_folders "${folders}" PARENT_SCOPE)
  set(link_unknown ${unknown} ${more} PARENT_SCOPE)
endfunction()

# The `libraries` that the target links, with those that they link; in `names`, what is linked that is no target.
function(_percpu_libraries libraries names target)
  foreach(list IN ITEMS pending seen others)
    set(${list} "")
  endforeach()
  get_target_property(type ${target} TYPE)
  if(type STREQUAL "INTERFACE_LIBRARY")
    _percpu_append(pending ${target} INTERFACE_LINK_LIBRARIES)
  else()
    _percpu_append(pending ${target} LINK_LIBRARIES)
  endif()
  while(pending)
    list(POP_FRONT pending library)
    # What a static library keeps to itself is linked all the same (policy CMP0099).
    if(library MATCHES "^\\$<LINK_ONLY:(.*)>$")
      set(library "${CMAKE_MATCH_1}")
    endif()
    if(NOT TARGET "${library}")
      list(APPEND others "${library}")
    elseif(NOT library IN_LIST seen)
      list(APPEND seen "${library}")
      _percpu_append(pending ${library} INTERFACE_LINK_LIBRARIES)
    endif()
  endwhile()
  set(${libraries} "${seen}" PARENT_SCOPE)
  set(${names} "${others}" PARENT_SCOPE)
endfunction()

# Appends what a property of the target holds, if it is set.
macro(_percpu_append list target property)
  get_target_property(value ${target} ${property})
  if(value)
    list(APPEND ${list} ${value})
  endif()
endmacro()

# The words that `options` are on a command line; what generator expressions say is not known yet, and they are `unknown`.
function(_percpu_plain words unknown options)
  set(plain "")
  set(left_out "")
  set(depth 0)
  foreach(option IN LISTS options)
    if(depth GREATER 0 OR option MATCHES "\\$<")
      # The `;` in an expression has made several options of it.
      string(REGEX MATCHALL "\\$<" opened "${option}")
      string(REGEX MATCHALL ">" closed "${option}")
      list(LENGTH opened opened)
      list(LENGTH closed closed)
      math(EXPR depth "${depth} + ${opened} - ${closed}")
      list(APPEND left_out "${option}")
      continue()
    endif()
    if(option MATCHES "^SHELL:(.*)")
      separate_arguments(option UNIX_COMMAND "${CMAKE_MATCH_1}")
    elseif(option MATCHES "^LINKER:SHELL:(.*)")
      separate_arguments(option UNIX_COMMAND "${CMAKE_MATCH_1}")
      list(TRANSFORM option PREPEND "-Wl,")
    elseif(option MATCHES "^LINKER:(.*)")
      set(option "-Wl,${CMAKE_MATCH_1}")
    endif()
    # What was not set is NOTFOUND.
    if(NOT option MATCHES "-NOTFOUND$")
      list(APPEND plain ${option})
    endif()
  endforeach()
  set(${words} "${plain}" PARENT_SCOPE)
  set(${unknown} "${left_out}" PARENT_SCOPE)
endfunction()
