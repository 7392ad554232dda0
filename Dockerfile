# The commands of launch/ in a container, for TPUs, or for GPUs (cuda12, cuda13), or neither (cpu):
#
#   docker build -t rin-diffussm-jax:tpu .
#   docker build -t rin-diffussm-jax:cuda --build-arg ACCELERATOR=cuda13 .
#   docker run --gpus=all -v "$PWD/runs:/code/runs" rin-diffussm-jax:cuda \
#     python -m launch.train --config=configs/rin/digits.py --workdir=runs/digits
FROM python:3.11-slim
ARG ACCELERATOR=tpu
WORKDIR /code
COPY . .
# CUDA comes with JAX: the host has the driver and NVIDIA's container toolkit.
RUN pip install --no-cache-dir -e ".[train,data]" "jax[${ACCELERATOR}]"
CMD ["python", "-m", "launch.train", "--help"]
