// Who shares the machine with this process.
#ifndef MLSEL_RANKS_H
#define MLSEL_RANKS_H

#include <mpi.h>

#include <algorithm>
#include <vector>

#include "threads.h"

namespace mlsel {

/// Our rank among the processes of this machine, and how many of them run on the same cores.
inline void share_node(MPI_Comm world, int &rank_on_node, int &n_sharing)
{
  MPI_Comm node;
  MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
  int n_on_node = 1;
  MPI_Comm_rank(node, &rank_on_node);
  MPI_Comm_size(node, &n_on_node);
  unsigned long mine = 0;
  allowed_cores(mine);
  std::vector<unsigned long> all(n_on_node);
  MPI_Allgather(&mine, 1, MPI_UNSIGNED_LONG, all.data(), 1, MPI_UNSIGNED_LONG, node);
  n_sharing = static_cast<int>(std::count(all.begin(), all.end(), mine));
  MPI_Comm_free(&node);
}

}    // namespace mlsel
#endif
