// What the files of the Python border share.
#pragma once

#include <string>

#include <nanobind/nanobind.h>

#include "kernels.h"

namespace tidegate::bindings {

// Raise ValueError in Python for an unknown name.
Cell cell_named(const std::string& name);
Type type_named(const std::string& name);

void bind_step(nanobind::module_& m);
void bind_crf(nanobind::module_& m);
void bind_pool(nanobind::module_& m);

}  // namespace tidegate::bindings
