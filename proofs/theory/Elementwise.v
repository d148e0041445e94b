(** An instance in R^n: elementwise functions keep their constant in every weighted norm, so the theorems apply
    to y = f + lambda tanh(y) for every f once |lambda| < 1, in l1, l2 and linf alike. *)
From Coq Require Import Reals Lra Lia List.
From Deqops Require Import Metric BanachSpace OperatorEquation RealLine Activations WeightedSpace.
Import ListNotations.
Local Open Scope R_scope.
Set Implicit Arguments.

Fixpoint elementwise (phi : R -> R) (J : join) (weights : list posreal) :
  point (weighted_space J weights) -> point (weighted_space J weights) :=
  match weights with
  | [] => fun x => x
  | _ :: rest => fun x => (phi (fst x), elementwise phi J rest (snd x))
  end.

Theorem elementwise_lipschitz (phi : R -> R) (k : R) (J : join) (weights : list posreal) :
  0 <= k -> lipschitz line (fun _ => True) k phi ->
  lipschitz (metric (weighted_space J weights)) (fun _ => True) k (elementwise phi J weights).
Proof.
  intros k0 lip. induction weights as [|w rest IH].
  - intros y z _ _. simpl. lra.
  - intros [y y'] [z z'] _ _. simpl in *.
    pose proof (lip y z I I) as one. pose proof (IH y' z' I I) as others. simpl in one, others.
    unfold R_dist, Rminus in one. pose proof (cond_pos w) as pos.
    pose proof (norm_nonneg (weighted_space J rest) (sub (weighted_space J rest) y' z')) as n0.
    assert (m0 : 0 <= w * Rabs (y + - z)) by (pose proof (Rabs_pos (y + - z)); nra).
    change (joined J (w * Rabs (phi y + - phi z))
              (norm (weighted_space J rest) (sub _ (elementwise phi J rest y') (elementwise phi J rest z')))
            <= k * joined J (w * Rabs (y + - z)) (norm (weighted_space J rest) (sub _ y' z'))).
    rewrite <- join_scale by assumption. apply join_monotone; split; auto using norm_nonneg.
    + pose proof (Rabs_pos (phi y + - phi z)). nra.
    + nra.
Qed.

Theorem tanh_equation (J : join) (weights : list posreal) (lambda : R) : Rabs lambda < 1 ->
  let E := weighted_space J weights in
  forall f : point E, let G := fun y => add E f (scale E lambda (elementwise tanh J weights y)) in
  exists s, equilibrium (metric E) G s
  /\ (forall t, equilibrium (metric E) G t -> t = s)
  /\ (forall y0, tends (metric E) (iterate (metric E) G y0) s).
Proof.
  intros small E f G.
  destruct (@operator_equation E (elementwise tanh J weights) 1 lambda (Rabs lambda)) with (f := f)
    as [s [fixed [only [_ conv]]]]; [lra | | lra | exact small |].
  - intros y z. apply (@elementwise_lipschitz tanh 1 J weights); [lra | exact tanh_lipschitz | exact I | exact I].
  - exists s. split; [symmetry; exact fixed|].
    split; [intros t ft; apply only; symmetry; exact ft|].
    intros y0. exact (proj1 (conv y0)).
Qed.
