(** T1 [picard] for the operator equation y = f + lambda T(y) in a real Banach space. *)
From Coq Require Import Reals Lra Lia.
From Deqops Require Import Metric Picard BanachSpace.
Local Open Scope R_scope.
Set Implicit Arguments.

(** The right-hand side, G(y) = f + lambda T(y). *)
Definition equation_map (E : banach) (f : point E) (lambda : R) (T : point E -> point E) (y : point E) : point E :=
  add E f (scale E lambda (T y)).

Lemma equation_lipschitz (E : banach) (S : point E -> Prop) f lambda T k : lipschitz (metric E) S k T ->
  lipschitz (metric E) S (Rabs lambda * k) (equation_map E f lambda T).
Proof.
  intros lip y z Sy Sz. simpl. unfold equation_map.
  rewrite sub_add, sub_self, add_comm, add_zero, scale_sub, norm_scale, Rmult_assoc.
  apply Rmult_le_compat_l; [apply Rabs_pos | exact (lip y z Sy Sz)].
Qed.

Theorem operator_equation (E : banach) (T : point E -> point E) (k lambda q : R) :
  0 <= k -> (forall y z, norm E (sub E (T y) (T z)) <= k * norm E (sub E y z)) ->
  Rabs lambda * k <= q -> q < 1 ->
  forall f : point E, let G := fun y => add E f (scale E lambda (T y)) in
  exists s, s = add E f (scale E lambda (T s))
  /\ (forall t, t = add E f (scale E lambda (T t)) -> t = s)
  /\ (forall y, norm E (sub E y s) <= norm E (sub E (G y) y) / (1 - q))
  /\ (forall y0, let y := iterate (metric E) G y0 in
        (forall eps, 0 < eps -> exists N, forall n, (N <= n)%nat -> norm E (sub E (y n) s) < eps)
        /\ (forall n, norm E (sub E (y n) s) <= q ^ n / (1 - q) * norm E (sub E (y 1%nat) y0))
        /\ (forall n, norm E (sub E (y (n + 1)%nat) s)
              <= q / (1 - q) * norm E (sub E (y (n + 1)%nat) (y n)))).
Proof.
  intros k0 lip rate below f G.
  assert (range : 0 <= q < 1).
  { split; [|exact below]. apply Rle_trans with (2 := rate). apply Rmult_le_pos; [apply Rabs_pos | exact k0]. }
  assert (contracts : lipschitz (metric E) (fun _ => True) q G).
  { intros y z Sy Sz.
    apply Rle_trans with (1 := @equation_lipschitz E _ f lambda T k (fun a b _ _ => lip a b) y z Sy Sz).
    apply Rmult_le_compat_r; [apply dist_nonneg | exact rate]. }
  assert (stays : invariant (metric E) (fun _ => True) G) by (intros y _; exact I).
  destruct (picard range stays contracts (@metric_complete E) f I) as [s [_ [fixed [only [conv bound]]]]].
  exists s. split; [symmetry; exact fixed|].
  split; [intros t ft; apply only; [exact I | symmetry; exact ft]|].
  split; [intros y; exact (bound y I)|].
  intros y0 y. exact (conv y0 I).
Qed.
