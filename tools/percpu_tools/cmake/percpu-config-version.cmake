# The version of percpu, from its one home: the runtime's header, in the package or in a checkout.

foreach(folder IN ITEMS "../data" "../../..")
  set(header "${CMAKE_CURRENT_LIST_DIR}/${folder}/percpu_cpp/include/percpu/config.hpp")
  if(EXISTS "${header}")
    file(STRINGS "${header}" line REGEX "^#define PERCPU_VERSION ")
    string(REGEX REPLACE ".*\"(.*)\".*" "\\1" PACKAGE_VERSION "${line}")
  endif()
endforeach()

# Before 1.0 a minor version may change what the one before promised (Semantic Versioning 2.0.0, item 4).
string(REGEX MATCH "^[0-9]+\\.[0-9]+" ours "${PACKAGE_VERSION}")
string(REGEX MATCH "^[0-9]+(\\.[0-9]+)?" asked "${PACKAGE_FIND_VERSION}")
if(PACKAGE_VERSION VERSION_EQUAL PACKAGE_FIND_VERSION)
  set(PACKAGE_VERSION_EXACT TRUE)
endif()
if(asked STREQUAL "" OR (ours VERSION_EQUAL asked AND NOT PACKAGE_VERSION VERSION_LESS PACKAGE_FIND_VERSION))
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
endif()
