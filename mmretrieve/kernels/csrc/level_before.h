// All that the code of a level needs from outside. It comes before the instructions of a level are
// switched on, so that nothing which levels share is compiled for a processor that may not be there.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <utility>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "parallel.h"
#include "views.h"
