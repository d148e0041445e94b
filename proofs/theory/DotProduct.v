(** R^n with any inner product is a Hilbert space: positive definite matrices, positive weights. *)
From Coq Require Import Reals Lra Lia FunctionalExtensionality.
From Coq Require Fin.
From Deqops Require Import Metric BanachSpace HilbertSpace Vectors VectorSpace.
Local Open Scope R_scope.
Set Implicit Arguments.

Record dot_product (n : nat) : Type := {
  dot : vec n -> vec n -> R;
  dot_comm : forall x y, dot x y = dot y x;
  dot_add : forall x y z, dot (fun i => x i + y i) z = dot x z + dot y z;
  dot_scale : forall a x y, dot (fun i => a * x i) y = a * dot x y;
  dot_definite : forall x, (exists i, x i <> 0) -> 0 < dot x x
}.

Definition first (n : nat) : vec (S n) := unit_matrix Fin.F1.
Definition later (n : nat) (x : vec n) : vec (S n) := fun i => Fin.caseS' i (fun _ => R) 0 x.

Lemma split_first n (x : vec (S n)) : x = (fun i => x Fin.F1 * @first n i + later (tail x) i).
Proof.
  extensionality i. revert i. apply by_index; unfold first, later, tail; simpl.
  - rewrite unit_same. ring.
  - intros i. rewrite unit_apart by discriminate. ring.
Qed.

Lemma later_add n (x y : vec n) : later (fun i => x i + y i) = (fun i => later x i + later y i).
Proof. extensionality i. revert i. apply by_index; unfold later; simpl; [ring | reflexivity]. Qed.

Lemma later_scale n a (x : vec n) : later (fun i => a * x i) = (fun i => a * later x i).
Proof. extensionality i. revert i. apply by_index; unfold later; simpl; [ring | reflexivity]. Qed.

(** What is subadditive and homogeneous is below a multiple of the sum of the moduli. *)
Lemma seminorm_seen n (p : vec n -> R) : (forall x y, p (fun i => x i + y i) <= p x + p y) ->
  (forall a x, p (fun i => a * x i) = Rabs a * p x) ->
  exists B, 0 <= B /\ forall x, p x <= B * sum (fun i => Rabs (x i)).
Proof.
  induction n as [|n IH]; intros add scale.
  - exists 0. split; [lra|]. intros x. replace x with (fun i => 0 * x i).
    + rewrite scale, Rabs_R0. lra.
    + extensionality i. exact (Fin.case0 (fun i => 0 * x i = x i) i).
  - destruct (IH (fun x => p (later x))) as [B [B0 below]].
    + intros x y. rewrite later_add. apply add.
    + intros a x. rewrite later_scale. apply scale.
    + exists (B + Rabs (p (@first n))). split; [pose proof (Rabs_pos (p (@first n))); lra|].
      intros x. rewrite (split_first x) at 1. apply Rle_trans with (1 := add _ _). rewrite scale. simpl.
      pose proof (below (tail x)) as rest. change (tail (fun i => Rabs (x i))) with (fun i => Rabs (tail x i)).
      pose proof (Rabs_pos (x Fin.F1)). pose proof (Rle_abs (p (@first n))). pose proof (Rabs_pos (p (@first n))).
      assert (0 <= sum (fun i => Rabs (tail x i))) by (apply sum_nonneg; intros i; apply Rabs_pos). nra.
Qed.

Section Dot.
Variables (n : nat) (D : dot_product n).

Lemma dot_add_right x y z : dot D x (fun i => y i + z i) = dot D x y + dot D x z.
Proof. now rewrite dot_comm, dot_add, !(dot_comm D _ x). Qed.

Lemma dot_scale_right a x y : dot D x (fun i => a * y i) = a * dot D x y.
Proof. now rewrite dot_comm, dot_scale, (dot_comm D y). Qed.

Lemma zero_or_not m (x : vec m) : (exists i, x i <> 0) \/ x = (fun _ => 0).
Proof.
  induction m as [|m IH]; [right; extensionality i; exact (Fin.case0 (fun i => x i = 0) i)|].
  destruct (Req_EM_T (x Fin.F1) 0) as [head|head]; [|left; exists Fin.F1; exact head].
  destruct (IH (tail x)) as [[i apart]|none]; [left; exists (Fin.FS i); exact apart|].
  right. extensionality i. revert i. apply by_index; [exact head|]. intros i.
  exact (f_equal (fun v : vec m => v i) none).
Qed.

Lemma dot_zero y : dot D (fun _ => 0) y = 0.
Proof.
  replace (fun _ : Fin.t n => 0) with (fun i : Fin.t n => 0 * 0) by (extensionality i; ring).
  rewrite (dot_scale D 0 (fun _ => 0)). ring.
Qed.

Lemma dot_nonneg x : 0 <= dot D x x.
Proof. destruct (zero_or_not x) as [some| ->]; [left; apply dot_definite; exact some | rewrite dot_zero; lra]. Qed.

Lemma dot_combination a b x y : dot D (fun i => a * x i + b * y i) (fun i => a * x i + b * y i)
  = a * a * dot D x x + 2 * a * b * dot D x y + b * b * dot D y y.
Proof.
  rewrite (dot_add D (fun i => a * x i) (fun i => b * y i)).
  rewrite !(dot_add_right _ (fun i => a * x i) (fun i => b * y i)), !dot_scale, !dot_scale_right, (dot_comm D y x).
  ring.
Qed.

Lemma dot_cauchy_schwarz x y : dot D x y * dot D x y <= dot D x x * dot D y y.
Proof.
  destruct (zero_or_not y) as [some| ->].
  - pose proof (dot_definite D y some) as pos.
    pose proof (dot_nonneg (fun i => dot D y y * x i + - dot D x y * y i)) as square.
    rewrite dot_combination in square.
    assert (0 <= dot D y y * (dot D x x * dot D y y - dot D x y * dot D x y)) by lra.
    apply Rnot_lt_le. intros above. nra.
  - rewrite (dot_comm D x), !dot_zero. lra.
Qed.

Definition length (x : vec n) : R := sqrt (dot D x x).

Lemma length_square x : length x * length x = dot D x x.
Proof. apply sqrt_sqrt, dot_nonneg. Qed.

Lemma length_add x y : length (fun i => x i + y i) <= length x + length y.
Proof.
  pose proof (sqrt_pos (dot D x x)) as x0. pose proof (sqrt_pos (dot D y y)) as y0. fold (length x) (length y) in *.
  pose proof (length_square x) as xx. pose proof (length_square y) as yy. pose proof (dot_cauchy_schwarz x y) as cs.
  rewrite <- xx, <- yy in cs.
  assert (dot D x y <= length x * length y).
  { apply Rnot_lt_le. intros above. assert (0 <= length x * length y) by nra. nra. }
  unfold length at 1. rewrite <- (sqrt_square (length x + length y)) by lra. apply sqrt_le_1_alt.
  rewrite dot_add, !dot_add_right, (dot_comm D y x). nra.
Qed.

Lemma length_scale a x : length (fun i => a * x i) = Rabs a * length x.
Proof.
  unfold length. rewrite dot_scale, dot_scale_right, <- Rmult_assoc, sqrt_mult_alt by nra. f_equal.
  exact (sqrt_Rsqr_abs a).
Qed.
End Dot.

(** The Schur complement: what is left of the inner product across from the first axis. *)
Definition across (n : nat) (D : dot_product (S n)) : dot_product n.
Proof.
  set (a := dot D (@first n) (@first n)).
  assert (pos : 0 < a).
  { apply dot_definite. exists Fin.F1. unfold first. rewrite unit_same. lra. }
  refine {| dot x y := dot D (later x) (later y) - dot D (@first n) (later x) * dot D (@first n) (later y) / a |}.
  - intros x y. rewrite (dot_comm D (later x)). field. lra.
  - intros x y z. rewrite later_add, dot_add, dot_add_right. field. lra.
  - intros c x y. rewrite later_scale, dot_scale, dot_scale_right. field. lra.
  - intros x [i apart]. set (b := dot D (@first n) (later x)).
    assert (positive : 0 < dot D (fun i => 1 * later x i + - (b / a) * @first n i)
                             (fun i => 1 * later x i + - (b / a) * @first n i)).
    { apply dot_definite. exists (Fin.FS i). unfold first, later; simpl. rewrite unit_apart by discriminate.
      intros none. apply apart. lra. }
    rewrite dot_combination, (dot_comm D (later x) (@first n)) in positive. fold a b in positive.
    replace (dot D (later x) (later x) - b * b / a) with
      (1 * 1 * dot D (later x) (later x) + 2 * 1 * - (b / a) * b + - (b / a) * - (b / a) * a) by (field; lra).
    exact positive.
Defined.

(** Each entry is below a multiple of the length. *)
Lemma length_sees n (D : dot_product n) : exists C, 0 <= C /\ forall x i, Rabs (x i) <= C * length D x.
Proof.
  induction n as [|n IH].
  - exists 0. split; [lra|]. intros x i. exact (Fin.case0 (fun i => Rabs (x i) <= _) i).
  - destruct (IH (across D)) as [C [C0 sees]]. set (a := dot D (@first n) (@first n)).
    assert (pos : 0 < a).
    { apply dot_definite. exists Fin.F1. unfold first. rewrite unit_same. lra. }
    destruct (@seminorm_seen n (fun t => Rabs (dot D (@first n) (later t)))) as [B [B0 seen]].
    { intros x y. rewrite later_add, dot_add_right. apply Rabs_triang. }
    { intros c x. rewrite later_scale, dot_scale_right. apply Rabs_mult. }
    exists (C + (/ sqrt a + B * (INR n * C) / a)).
    assert (r0 : 0 < sqrt a) by (apply sqrt_lt_R0; exact pos).
    assert (i0 : 0 < / sqrt a) by (apply Rinv_0_lt_compat; exact r0).
    assert (f0 : 0 <= B * (INR n * C) / a).
    { apply Rmult_le_pos; [|left; apply Rinv_0_lt_compat; exact pos].
      apply Rmult_le_pos; [exact B0|]. apply Rmult_le_pos; [apply pos_INR | exact C0]. }
    split; [lra|]. intros x.
    assert (l0 : 0 <= length D x) by apply sqrt_pos.
    set (b := dot D (@first n) (later (tail x))).
    assert (whole : dot D x x = a * ((x Fin.F1 + b / a) * (x Fin.F1 + b / a)) + dot (across D) (tail x) (tail x)).
    { rewrite (split_first x) at 1 2.
      replace (fun i => x Fin.F1 * @first n i + later (tail x) i) with
        (fun i => x Fin.F1 * @first n i + 1 * later (tail x) i) by (extensionality i; ring).
      rewrite dot_combination. simpl. fold a b. field. lra. }
    assert (rest : forall i, Rabs (tail x i) <= C * length D x).
    { intros i. apply Rle_trans with (1 := sees (tail x) i). apply Rmult_le_compat_l; [exact C0|].
      apply sqrt_le_1_alt. rewrite whole.
      pose proof (Rmult_le_pos a _ (Rlt_le _ _ pos) (Rle_0_sqr (x Fin.F1 + b / a))) as square.
      unfold Rsqr in square. unfold length. simpl in *. lra. }
    assert (head : Rabs (x Fin.F1 + b / a) <= / sqrt a * length D x).
    { rewrite <- sqrt_Rsqr_abs. unfold Rsqr. apply Rmult_le_reg_l with (1 := r0).
      replace (sqrt a * (/ sqrt a * length D x)) with (length D x) by (field; lra).
      rewrite <- sqrt_mult_alt by lra. apply sqrt_le_1_alt. rewrite whole.
      pose proof (dot_nonneg (across D) (tail x)). lra. }
    assert (linear : Rabs b <= B * (INR n * C) * length D x).
    { apply Rle_trans with (1 := seen (tail x)). rewrite Rmult_assoc. apply Rmult_le_compat_l; [exact B0|].
      rewrite Rmult_assoc, <- sum_const. apply sum_le. exact rest. }
    intros i. revert i. apply by_index.
    + replace (x Fin.F1) with (x Fin.F1 + b / a + - (b / a)) by ring.
      apply Rle_trans with (1 := Rabs_triang _ _). rewrite Rabs_Ropp. unfold Rdiv at 2. rewrite Rabs_mult.
      rewrite (Rabs_right (/ a)) by (apply Rle_ge; left; apply Rinv_0_lt_compat; exact pos).
      assert (Rabs b * / a <= B * (INR n * C) * length D x * / a).
      { apply Rmult_le_compat_r; [left; apply Rinv_0_lt_compat; exact pos | exact linear]. }
      unfold Rdiv in *. nra.
    + intros i. apply Rle_trans with (1 := rest i). nra.
Qed.

Definition dot_norm (n : nat) (D : dot_product n) : vector_norm n.
Proof.
  refine {| size := length D; size_add := length_add D; size_scale := length_scale D |}.
  - destruct (length_sees D) as [C [_ sees]]. exists C. exact sees.
  - destruct (seminorm_seen (length D) (length_add D) (length_scale D)) as [B [_ seen]]. exists B. exact seen.
Defined.

Definition dot_space (n : nat) (D : dot_product n) : hilbert :=
  Build_hilbert (vector_space (dot_norm D)) (dot D) (dot_comm D) (dot_add D) (dot_scale D) (length_square D).

(** x^T P y, P symmetric and positive definite. *)
Definition matrix_product (n : nat) (P : mat n n) (symmetric : forall i j, P i j = P j i)
  (definite : forall x, (exists i, x i <> 0) -> 0 < sum (fun i => x i * apply P x i)) : dot_product n.
Proof.
  refine {| dot x y := sum (fun i => x i * apply P y i) |}.
  - intros x y. unfold apply.
    rewrite (@sum_ext n _ (fun i => sum (fun j => x i * (P i j * y j)))) by (intros i; now rewrite sum_scale).
    rewrite sum_swap. apply sum_ext. intros j. rewrite <- sum_scale. apply sum_ext. intros i.
    rewrite (symmetric j i). ring.
  - intros x y z. rewrite <- sum_add. apply sum_ext. intros i. ring.
  - intros a x y. rewrite <- sum_scale. apply sum_ext. intros i. ring.
  - exact definite.
Defined.

(** sum p_i x_i y_i, all p_i > 0. *)
Definition weighted_product (n : nat) (p : Fin.t n -> posreal) : dot_product n.
Proof.
  refine {| dot x y := sum (fun i => p i * (x i * y i)) |}.
  - intros x y. apply sum_ext. intros i. ring.
  - intros x y z. rewrite <- sum_add. apply sum_ext. intros i. ring.
  - intros a x y. rewrite <- sum_scale. apply sum_ext. intros i. ring.
  - intros x [i apart]. assert (each : forall j, 0 <= p j * (x j * x j)).
    { intros j. pose proof (cond_pos (p j)). nra. }
    apply Rlt_le_trans with (2 := sum_term (fun j => p j * (x j * x j)) each i). pose proof (cond_pos (p i)).
    apply Rmult_lt_0_compat; [assumption|]. nra.
Defined.
