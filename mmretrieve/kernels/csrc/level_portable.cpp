// Plain C++ for any processor.
#include "level_before.h"

#include "level.h"

const mmr::Level mmr::portable_level = mmr::level("portable");
