// What the files of the Python border share.
#pragma once

#include <string>

#include <nanobind/nanobind.h>

#include "kernels.h"

namespace tidegate::bindings {

// Raise ValueError in Python for an unknown name.
Cell cell_named(const std::string& name);
Type type_named(const std::string& name);

// Raise ValueError in Python for a layout that would have a kernel read outside its arrays.
void check_batch_sizes(const std::int64_t* sizes, std::int64_t steps, std::int64_t rows, std::int64_t values);

void bind_step(nanobind::module_& m);
void bind_crf(nanobind::module_& m);
void bind_pool(nanobind::module_& m);
void bind_scan(nanobind::module_& m);

}  // namespace tidegate::bindings
