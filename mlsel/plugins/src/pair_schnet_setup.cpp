// pair_style schnet before its first step: arguments, files, models, threads.

#include "pair_schnet.h"

#include <algorithm>
#include <cstdlib>
#include <exception>

#include "atom.h"
#include "bridge.h"
#include "comm.h"
#include "error.h"
#include "files.h"
#include "ranks.h"
#include "schnet_cuda.h"
#include "utils.h"

using namespace LAMMPS_NS;

// pair_style schnet [compressed|torchscript] [device cpu|cuda|cuda:N] [threads N]
void PairMlselSchnet::settings(int narg, char **arg)
{
  mode = Mode::automatic;
  device = -2;
  on_gpu = false;
  n_threads = 0;
  for (int k = 0; k < narg; k++) {
    const std::string word = arg[k];
    const bool last = k + 1 == narg;
    if (word == "compressed") {
      mode = Mode::compressed;
    } else if (word == "torchscript") {
      mode = Mode::torchscript;
    } else if (word == "device" && !last) {
      const std::string name = arg[++k];
      if (name == "cpu")
        device = -1;
      else if (name == "cuda")
        device = -2;
      else if (name.rfind("cuda:", 0) == 0 && utils::is_integer(name.substr(5)))
        device = std::max(0, std::atoi(name.c_str() + 5));
      else
        error->all(FLERR, "{}: device is {}; it can be cpu, cuda or cuda:N", style, name);
      on_gpu = device != -1;
    } else if (word == "threads" && !last) {
      n_threads = utils::inumeric(FLERR, arg[++k], false, lmp);
      if (n_threads < 1 || n_threads > 1024)
        error->all(FLERR, "{}: threads is {}; it must be between 1 and 1024", style, n_threads);
    } else {
      error->all(FLERR,
                 "{}: {} is not known or lacks its value; compressed, torchscript, "
                 "device cpu|cuda|cuda:N and threads N are",
                 style, word);
    }
  }
  check_units();
}

// pair_coeff * * model.pt Na Cl …
void PairMlselSchnet::coeff(int narg, char **arg)
{
  const std::vector<std::string> words =
      type_words(narg, arg, 0, "* * file and one element or NULL");
  close_model();
  find_file(arg[2]);
  read_model();

  std::string known;
  for (const std::string &one : file.species) known += ' ' + one;
  kinds.assign(words.size() + 1, NOT_OURS);
  for (size_t type = 1; type < kinds.size(); type++) {
    const std::string &word = words[type - 1];
    if (word == "NULL") continue;
    const auto found = std::find(file.species.begin(), file.species.end(), word);
    if (found == file.species.end())
      error->all(FLERR, "{} knows nothing of {} (atom type {}), only of{}", path, word, type,
                 known);
    kinds[type] = static_cast<int>(found - file.species.begin());
  }
  open_model();
  set_flags();
}

/// One process reads the file for all, and every one finds the same in it.
void PairMlselSchnet::read_model()
{
  std::string bytes, cause;
  if (comm->me == 0) {
    try {
      bytes = mlsel::read_whole(path);
    } catch (const std::exception &exception) {
      cause = exception.what();
    }
  }
  agree(cause);
  broadcast(bytes);
  try {
    file = mlsel::ModelFile::parse(path, std::move(bytes));
    cutoff = file.cutoff;
  } catch (const std::exception &exception) {
    cause = exception.what();
  }
  agree(cause);
}

/// The compressed mode on a GPU is a library of its own, which needs nvcc to be built.
static mlsel_cuda_function *gpu_maker()
{
  try {
    return mlsel::bridge_function<mlsel_cuda_function>("libmlsel_cuda.so", "mlsel_cuda");
  } catch (const std::exception &exception) {
    throw std::runtime_error("the compressed mode has no GPU part in this build; where nvcc is, run "
                             "python -m mlsel.plugins build --cuda; or take device cpu, or "
                             "torchscript");
  }
}

void PairMlselSchnet::open_model()
{
  const bool compressed =
      mode == Mode::compressed || (mode == Mode::automatic && file.has_compressed);
  int rank_on_node = 0, n_sharing = 1, device_used = -1;
  mlsel::share_node(ours, rank_on_node, n_sharing);
  const int threads = n_threads ? n_threads : mlsel::default_threads(n_sharing);
  std::string cause;
  try {
    if (compressed) {
      if (on_gpu)
        model.reset(gpu_maker()(file, device, rank_on_node, &device_used));
      else
        model = mlsel::CompressedModel::make(file, threads);
      file.compressed.arrays.clear();
    } else {
      torch =
          mlsel::bridge_function<mlsel_torch_api_function>("libmlsel_torch.so", "mlsel_torch")();
      const char *answer = torch->open(file.bytes.data(), file.bytes.size(), device, rank_on_node,
                                       threads, file.dtype == "float64", file.n_layers,
                                       file.widths.data(), file.cutoff, &torch_model, &device_used);
      if (answer) cause = path + " cannot be opened by torch: " + answer;
    }
  } catch (const std::exception &exception) {
    cause = exception.what();
    if (mode == Mode::compressed && !file.has_compressed) cause = path + ": " + cause;
  }
  agree(cause);
  file.bytes.clear();
  file.bytes.shrink_to_fit();

  comm_forward = 2;    // who owns a ghost
  if (comm->me == 0)
    utils::logmesg(
        lmp, "{}: {} ({}, {}), {}, {} thread{} on each process\n", style, path, file.model,
        file.dtype,
        compressed ? std::string("compressed, ") + model->kernel()
                   : "torchscript, " +
                (device_used < 0 ? std::string("cpu") : "cuda:" + std::to_string(device_used)),
        threads, threads == 1 ? "" : "s");
}

void PairMlselSchnet::close_model()
{
  model.reset();
  if (torch_model) torch->close(torch_model);
  torch_model = nullptr;
}
